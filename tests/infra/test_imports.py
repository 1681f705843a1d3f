"""Who may import whom. Held over the source of every module, also of services yet to come."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ROOMS = (
    "auth",
    "archive",
    "store",
    "core",
    "broker",
    "consuming",
    "read_models",
    "http",
    "tracing",
    "process",
    "export",
    "local",
)
"""Of infra, from the bottom up: a room imports itself, the rooms before it, and the modules in none."""

SERVICES = sorted(path.parent.name for path in ROOT.glob("*_svc/__init__.py"))
CLOCKS_CHANCE_AND_IO = frozenset(
    {
        "asyncio",
        "concurrent",
        "http",
        "importlib",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
    }
)


def modules() -> dict[str, str]:
    """Module name → source, of everything but the tests."""
    packages = ["contracts", "infra", "ops", *SERVICES]
    files = [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file.read_text() for file in files}


def imports(source: str) -> Iterator[str]:
    """Every module that is imported anywhere in it, by its full name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from a import b` may mean the module a.b: judged by both names.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def allowed(module: str, imported: str, wired: bool) -> bool:
    """Whether `module` may import `imported`; `wired`: its service's `__main__` imports it."""
    package, _, rest = module.partition(".")
    top = imported.partition(".")[0]
    if top == "tests":
        return False
    if package == "contracts":
        return within(imported, "contracts", "msgspec") or _harmless(top)
    if (
        within(imported, "infra.export")
        and not within(module, "infra.export")
        and rest not in ("export", "remove_data")
    ):
        return False  # off the way of the requests: no service's own process has any part of an export
    if package == "infra":
        return top != "ops" and top not in SERVICES and (top != "infra" or floor(imported) <= floor(module))
    if package == "ops":
        return True
    if top == "ops" or (top in SERVICES and top != package):
        return False
    if within(rest, "domain"):
        return within(imported, f"{package}.domain", "contracts", "msgspec") or _harmless(top)
    if rest == "reactions":
        return within(imported, f"{package}.domain", "contracts") or _harmless(top)
    if within(imported, f"{package}.export") or within(imported, "infra.local"):
        return False
    # `export` is the `__main__` of a process of its own.
    return top != "infra" or rest in {"__main__", "export"} or wired


def floor(name: str) -> int:
    """How high a module of infra lies: 0 for those in no room, then as ROOMS has it."""
    room = name.split(".")[1]
    return ROOMS.index(room) + 1 if room in ROOMS else 0


def _harmless(top: str) -> bool:
    return top in sys.stdlib_module_names and top not in CLOCKS_CHANCE_AND_IO


def violations(sources: dict[str, str]) -> list[str]:
    wired = {
        name
        for service in SERVICES
        for found in imports(sources.get(f"{service}.__main__", ""))
        for name in (found, found.rpartition(".")[0])
    }
    return [
        f"{module} imports {imported}"
        for module, source in sources.items()
        for imported in imports(source)
        if not allowed(module, imported, module in wired)
    ]


def test_there_are_modules_to_judge() -> None:
    found = modules()

    assert {"order_svc", "product_svc", "point_svc", "coupon_svc"} <= set(SERVICES)
    assert {"contracts.wire", "infra.process.service", "order_svc.domain", "product_svc.domain.reservation"} <= set(
        found
    )


def test_every_module_of_infra_is_in_a_room_or_below_them_all() -> None:
    rooms = {path.name for path in (ROOT / "infra").iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert rooms == set(ROOMS)


def test_every_import_is_allowed() -> None:
    assert violations(modules()) == []


def test_no_decision_reads_a_clock() -> None:
    reading = [
        f"{module}:{node.lineno}"
        for module, source in modules().items()
        if within(module, *(f"{service}.domain" for service in SERVICES))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}
    ]

    assert reading == []


def test_every_service_has_the_modules_of_the_layout() -> None:
    found = modules()

    for service in SERVICES:
        assert f"{service}.domain" in found or f"{service}.domain.__init__" in found
        assert {f"{service}.{name}" for name in ("__init__", "reactions", "api", "__main__")} <= set(found)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("contracts.wire", "import nats"),
        ("contracts.wire", "import socket"),
        ("contracts.wire", "from infra.store.event_store import EventStore"),
        ("contracts.wire", "import order_svc.domain"),
        ("infra.broker.relay", "from point_svc.domain import decide"),
        ("infra.broker.relay", "from ops import trace"),
        ("infra.broker.relay", "def late():\n    import point_svc"),
        ("order_svc.domain", "from infra.core.decider import Aggregate"),
        ("order_svc.domain", "import time"),
        ("order_svc.domain", "from random import random"),
        ("order_svc.domain", "from order_svc import reactions"),
        ("product_svc.domain.reservation", "from product_svc.catalog import Catalog"),
        ("point_svc.reactions", "from point_svc.api import routes"),
        ("point_svc.reactions", "from infra.core.writer import Reactions"),
        ("point_svc.reactions", "from product_svc.domain import product"),
        ("coupon_svc.api", "from point_svc.domain import State"),
        ("coupon_svc.api", "import ops.trace"),
        ("coupon_svc.helpers", "from infra.store.records import Notification"),
        ("coupon_svc.api", "from tests.shop import Shop"),
        ("coupon_svc.api", "from infra.export.rows import Row"),
        ("coupon_svc.api", "from coupon_svc import export"),
        ("coupon_svc.export", "from order_svc.export import ORDERS"),
        ("infra.process.service", "from infra.export.rows import Row"),
        ("infra.store.sqlite", "from infra.core.decider import Aggregate"),
        ("infra.core.writer", "from infra.broker.client import BrokerClient"),
        ("infra.consuming.session", "from infra.http.problems import Problem"),
        ("infra.settings", "from infra.store.records import Record"),
        ("infra.process.service", "from infra.local import services"),
        ("coupon_svc.api", "from infra.local.services import ROOT"),
        ("infra.export.rows", "from order_svc.export import OrderRow"),
    ],
)
def test_an_import_against_the_rule_is_found(module: str, line: str) -> None:
    assert violations({module: line, "coupon_svc.__main__": "from coupon_svc.api import routes"}) != []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("contracts.wire", "from typing import Final\nimport msgspec\nfrom contracts.fact import Fact"),
        (
            "infra.broker.relay",
            "import asyncio\nimport nats\nfrom contracts.wire import MSG_ID\nfrom infra.store.records import Record",
        ),
        ("product_svc.domain.reservation", "from product_svc.domain import product\nfrom contracts import Fact"),
        ("point_svc.reactions", "from contracts import Fact\nfrom point_svc.domain import Use"),
        ("coupon_svc.api", "from infra.http.problems import Problem\nfrom coupon_svc import domain"),
        ("coupon_svc.__main__", "from infra.process.service import run"),
        ("coupon_svc.helpers", "import hashlib, time\nfrom contracts import Fact"),
        ("coupon_svc.export", "from infra.export.rows import Row\nfrom infra.store.records import Notification"),
        ("infra.export.arrow", "import pyarrow\nfrom infra.export.rows import Row"),
    ],
)
def test_an_import_that_follows_the_rule_is_not(module: str, line: str) -> None:
    sources = {"coupon_svc.__main__": "from coupon_svc.api import routes", module: line}

    assert violations(sources) == []
