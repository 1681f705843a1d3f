"""The levels of the tests: which tests start a broker, which start processes of the system, which take long or longest.

`mark_all` derives the levels of a test from the code that it and its fixtures run. `guard` holds them: without the
marker of its level, a test that starts a nats-server or a process of the system fails.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

BROKER: Final = "broker"
PROCESSES: Final = "processes"
LONG: Final = "long"
SLOW: Final = "slow"

START_A_BROKER: Final = frozenset({"start_nats", "launch_nats", "run_nats"})
"""Functions and methods that start a nats-server."""

START_PROCESSES: Final = frozenset(
    {
        *("infra.local.own_system.OwnSystem", "infra.local.processes.start_service"),
        *("tests.forked.Forked", "tests.shop.open_shop", "tests.ops.boards.Board"),
        *("tests.e2e.processes.started", "tests.e2e.processes.on_a_terminal", "tests.e2e.processes.run"),
    }
)
"""Functions and classes that start a service or a command."""

PROCESS_PATHS: Final = (
    *("tests/e2e/", "tests/chaos/", "tests/drill/"),
    *("tests/bench/test_measure.py", "tests/bench/test_overload.py", "tests/bench/test_systems.py"),
    *("tests/bench/test_alternatives.py", "tests/bench/test_years.py"),
    *("tests/docs/test_fifth_service.py", "tests/docs/test_change_a_rule_page.py", "tests/docs/test_pictures.py"),
    "tests/infra/test_tuning.py",
)
"""All tests in these folders and files start processes, or wait for some that they start in other ways."""

SAGA: Final = "tests/saga/"
"""A test in this folder that starts a broker also starts services, maybe in other ways."""

SLOW_FILES: Final = (
    "tests/chaos/",
    "tests/drill/",
    "tests/sim/test_bugs.py",
    "tests/sim/test_bugs_too.py",
    "tests/sim/test_schedules.py",
    "tests/sim/test_soak.py",
    "tests/bench/test_systems.py",
    "tests/bench/test_alternatives.py",
    "tests/bench/test_years.py",
    "tests/docs/test_operating_page.py",
    "tests/domain/test_any_order.py",
    "tests/metrics/test_alerts.py",
    "tests/mutants/test_mutants.py",
    "tests/sim/test_core.py",
)
"""Files of tests that take more than a few seconds each."""

LONG_FILES: Final = (
    "tests/audit/test_any_history.py",
    "tests/bounded/test_kept_history.py",
    "tests/contracts/test_new_members.py",
    "tests/contracts/test_spans.py",
    "tests/infra/archive/test_bucket.py",
    "tests/infra/export/test_compaction.py",
    "tests/infra/export/test_http_sink.py",
    "tests/infra/http/test_server.py",
    "tests/infra/store/test_identity.py",
    "tests/infra/store/test_sqlite.py",
    "tests/ops/test_arguments.py",
    "tests/ops/test_dashboard_order.py",
    "tests/ops/test_find.py",
    "tests/read_models/test_order_list.py",
    "tests/saga/test_deadlines.py",
    "tests/sim/test_sieve.py",
    "tests/supply_chain/",
)
"""Files of tests without a broker that wait for time to pass or try many examples, so that the file takes seconds."""

SYSTEM_MODULES: Final = ("infra.local.", "ops.", "bench", "tests.wrappers.", "tests.chaos")
"""Modules that start processes of the system when they run as `python -m`, besides all of the services."""

_running: pytest.Item | None = None


def mark_all(items: Iterable[pytest.Item], root: Path) -> None:
    """Give each test the markers of its levels."""
    for item in items:
        path = item.path.relative_to(root).as_posix()
        reached = {name for function in _functions(item) for name in _reached(function)}
        broker = any(name.rpartition(".")[2] in START_A_BROKER for name in reached)
        if path.startswith(PROCESS_PATHS) or reached & START_PROCESSES or (broker and path.startswith(SAGA)):
            item.add_marker(PROCESSES)
        if broker or item.get_closest_marker(PROCESSES):
            item.add_marker(BROKER)
        if path.startswith(LONG_FILES):
            item.add_marker(LONG)
        if path.startswith(SLOW_FILES):
            item.add_marker(SLOW)


def _functions(item: pytest.Item) -> Iterator[Callable[..., object]]:
    """The test's own function and those of its fixtures."""
    if isinstance(item, pytest.Function):
        yield item.function
        for definitions in item._fixtureinfo.name2fixturedefs.values():
            yield from (inspect.unwrap(definition.func) for definition in definitions)


@functools.cache
def _reached(function: Callable[..., object]) -> frozenset[str]:
    """The names of all attributes, and of all objects of this repository, that it uses or calls, in turn."""
    return frozenset(_names_from(function))


def _names_from(function: Callable[..., object]) -> Iterator[str]:
    waiting: list[Any] = [function]
    seen: set[int] = set()
    while waiting:
        found = inspect.unwrap(waiting.pop())
        module = getattr(found, "__module__", None) or ""
        if id(found) in seen or module.partition(".")[0] not in {"tests", "infra", "bench"}:
            continue
        seen.add(id(found))
        yield f"{module}.{found.__qualname__}"
        code = getattr(found, "__code__", None)
        if code is None:
            continue
        for name in _names(code):
            yield name
            used = found.__globals__.get(name)
            if inspect.isfunction(used) or inspect.isclass(used):
                waiting.append(used)


def _names(code: Any) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names(constant)


def guard(item: pytest.Item | None) -> None:
    """From now on, hold what is started against the levels of this test; None: hold nothing."""
    global _running  # noqa: PLW0603 - an audit hook has no other way to learn it
    _running = item


def started(level: str, what: str) -> None:
    """Called before something is started. Fails the running test if it lacks the marker."""
    if _running is not None and _running.get_closest_marker(level) is None:
        pytest.fail(f"this test starts {what} but lacks the marker {level!r}: add it, or derive it in tests/levels.py")


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and _running is not None:
        words = [str(word) for word in ([arguments[1]] if isinstance(arguments[1], str) else arguments[1])]
        if Path(str(arguments[0] or words[0])).name == "nats-server":
            started(BROKER, "a nats-server")
        elif "-m" in words[:-1]:
            module = words[words.index("-m") + 1]
            if module.partition(".")[0].endswith("_svc") or module.startswith(SYSTEM_MODULES):
                started(PROCESSES, f"`python -m {module}`")


sys.addaudithook(_watch)
