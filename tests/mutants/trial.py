"""Runs tests of a tree in a process of its own, forked from one that has imported the libraries already."""

import contextlib
import gc
import importlib
import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, NamedTuple

import coverage
import pytest
from hypothesis import Phase, settings

LIBRARIES: Final = ("msgspec", "litestar", "httpx", "nats", "eventsourcing", "structlog", "rich_click")
"""What most tests import: importing them once takes most of a trial's time away."""

WAITING: Final = 12.0
OUTPUT: Final = "output.txt"
PASSED: Final = 0
FAILED: Final = frozenset({1, 2})
"""pytest's exit codes for a failed test, and for tests that cannot be imported."""
NOT_BEGUN: Final = 4
"""pytest's exit code for tests that do not exist, such as one that is named after a changed constant, and for a
conftest.py that cannot be imported."""


class Outcome(NamedTuple):
    """How a run of tests ended. `code` is pytest's; None if it was ended for taking too long."""

    code: int | None
    failed: str
    """The first test that failed, or the module that could not be imported."""
    error: str
    seconds: float


def preload() -> None:
    """Import pytest's plugins and what most tests import."""
    plugins = [point.module for point in entry_points(group="pytest11")]
    for name in (*LIBRARIES, *plugins):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # no trial looks at all of it again


def run(tree: Path, arguments: Sequence[str], cpu_s: float, measured: Path | None = None) -> Outcome:
    """Run pytest in a tree with these arguments, ended after `cpu_s` seconds of CPU, with all that it started.

    A busy machine takes longer, so of real time it has WAITING times as much; then it waits for something.
    `measured` is the file that gets which test ran which lines; without it, pytest stops at the first failure.
    """
    report = tree.parent / "report.json"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    child = multiprocessing.get_context("fork").Process(target=_child, args=(tree, arguments, cpu_s, report, measured))
    child.start()
    assert child.pid is not None
    try:
        child.join(WAITING * cpu_s)
        code = None if child.exitcode == -signal.SIGXCPU else child.exitcode
    finally:
        with contextlib.suppress(ProcessLookupError):  # what it left running, too
            os.killpg(child.pid, signal.SIGKILL)
        child.join()
    took = time.monotonic() - began
    told = json.loads(report.read_text()) if report.exists() else {"failed": "", "error": _last_line(tree)}
    return Outcome(code, told["failed"], told["error"], took)


def _last_line(tree: Path) -> str:
    lines = (tree.parent / OUTPUT).read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")[:300]


def _child(tree: Path, arguments: Sequence[str], cpu_s: float, report: Path, measured: Path | None) -> None:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(cpu_s), math.ceil(cpu_s) + 5))
    os.chdir(tree)
    silence = os.open(os.devnull, os.O_RDWR)
    log = os.open(tree.parent / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream, target in ((0, silence), (1, log), (2, log)):
        os.dup2(target, stream)
    here = Path(__file__).resolve().parents[2]
    sys.path[:] = [str(tree), *(entry for entry in sys.path if entry and Path(entry).resolve() != here)]
    for name in [name for name in sys.modules if name.partition(".")[0] in {"tests", "infra", "contracts", "bench"}]:
        del sys.modules[name]
    sys.dont_write_bytecode = False  # of a mutant it is taken away again, and all else need not be compiled once more
    plugins: list[Any] = [_Steady(), _Failures(report)]
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:cov",
        "-p",
        "no:faker",
        "-p",
        "no:xdist",
        "--tb=line",
        "--no-header",
    ]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of the plugins that are imported already
    if measured is None:
        code = int(pytest.main([*options, "-x", *arguments], plugins=plugins))
    else:
        plugins.append(_Lines(tree, measured))
        code = int(pytest.main([*options, *arguments], plugins=plugins))
    sys.stdout.flush()
    os._exit(code)


class _Steady:
    """Property tests have the same examples in each run, and a busy machine fails none."""

    def pytest_configure(self) -> None:
        phases = (Phase.explicit, Phase.generate)  # that a test fails is enough, by whatever example
        settings.register_profile("mutants", deadline=None, derandomize=True, database=None, phases=phases)
        settings.load_profile("mutants")


class _Failures:
    """Writes down the first failure."""

    def __init__(self, report: Path) -> None:
        self._report = report

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed and not self._report.exists():
            text = str(getattr(report, "longreprtext", "") or report.longrepr)
            error = text.strip().splitlines()[-1] if text.strip() else ""
            self._report.write_text(json.dumps({"failed": report.nodeid, "error": error[:300]}))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)


class _Lines:
    """Writes down which test ran which lines, and how long it took. Tests that fail are left out."""

    def __init__(self, tree: Path, measured: Path) -> None:
        self._tree, self._measured = tree, measured
        os.environ["COVERAGE_CORE"] = "ctrace"  # the only one that tells tests apart
        self._coverage = coverage.Coverage(data_file=None, config_file=False, source=[str(tree)], messages=False)
        self._coverage.start()
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self._coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_unconfigure(self) -> None:
        self._coverage.stop()
        data = self._coverage.get_data()
        passed = [test for test in self._seconds if test not in self._failed]
        number = {test: at for at, test in enumerate(passed)}
        lines: dict[str, dict[int, list[int]]] = {}
        for file in data.measured_files():
            contexts = data.contexts_by_lineno(file)
            if contexts:  # else it was not imported
                lines[Path(file).relative_to(self._tree).as_posix()] = {
                    line: sorted(number[test] for test in tests if test in number) for line, tests in contexts.items()
                }
        seconds = [[test, round(self._seconds[test], 3)] for test in passed]
        self._measured.write_text(json.dumps({"tests": seconds, "lines": lines, "failed": sorted(self._failed)}))
