"""Who may import whom: the packages are layers, and what decides is pure."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.local import ROOT, services

SERVICES = {f"{name}_svc" for name in services()}
OURS = {"contracts", "infra", "ops", "bench", "tests", *SERVICES}

TOUCHES_THE_WORLD = {
    *(
        "asyncio",
        "concurrent",
        "http",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
    ),
    *("signal", "socket", "sqlite3", "subprocess", "tempfile", "threading", "time", "urllib", "uuid"),
}
"""Of the standard library: I/O, clocks, chance and concurrency."""


class Import(NamedTuple):
    """`module` imports `imported`, both with dots."""

    module: str
    imported: str

    @property
    def package(self) -> str:
        return self.imported.partition(".")[0]

    @property
    def is_third_party(self) -> bool:
        return self.package not in OURS and self.package not in sys.stdlib_module_names


def imports(*packages: str) -> Iterator[Import]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for imported in _imported(path):
                yield Import(module, imported)


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module, names, 0):
                yield from (f"{module}.{name.name}" for name in names)
            case ast.ImportFrom():
                yield f"{path.parent.relative_to(ROOT).parts[0]}.?"  # relative: stays in its package


def is_pure(module: str) -> bool:
    """Whether the module decides: the domain of a service, and its table of reactions."""
    parts = module.split(".")
    return parts[0] in SERVICES and parts[1] in ("domain", "reactions")


def test_contracts_know_nothing_but_msgspec() -> None:
    found = list(imports("contracts"))
    assert [each for each in found if each.package in OURS - {"contracts"}] == []
    assert [each for each in found if each.is_third_party and each.package != "msgspec"] == []
    assert [each for each in found if each.package in TOUCHES_THE_WORLD] == []


def test_infra_knows_the_contracts_and_no_service() -> None:
    assert [each for each in imports("infra") if each.package in OURS - {"infra", "contracts"}] == []


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_knows_the_contracts_infra_and_itself(service: str) -> None:
    found = list(imports(service))
    assert found
    assert [each for each in found if each.package in OURS - {"contracts", "infra", service}] == []


def test_what_decides_is_pure() -> None:
    found = [each for each in imports(*SERVICES) if is_pure(each.module)]
    assert {each.module.partition(".")[0] for each in found} == SERVICES
    assert [each for each in found if each.package == "infra"] == []
    assert [each for each in found if each.package in TOUCHES_THE_WORLD] == []
    assert [each for each in found if each.is_third_party and each.package != "msgspec"] == []


def test_a_domain_knows_nothing_else_of_its_service() -> None:
    found = [each for each in imports(*SERVICES) if each.module.split(".")[1] == "domain"]
    assert [each for each in found if each.package in SERVICES and each.imported.split(".")[1] != "domain"] == []


def test_nothing_that_runs_knows_the_tests() -> None:
    assert [each for each in imports("contracts", "infra", "ops", *SERVICES) if each.package == "tests"] == []
