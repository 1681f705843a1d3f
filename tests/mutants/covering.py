"""Which tests execute which lines of the unmutated code, file of tests by file of tests, kept on disk."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from tests.mutants import trial
from tests.mutants.mutate import Mutant
from tests.mutants.tree import digest

MEASURING_S: Final = 900.0
"""The most that one file of tests may take, measured."""


class Test(NamedTuple):
    """A test, and the seconds that it takes with the unmutated code."""

    id: str
    seconds: float

    @property
    def file(self) -> str:
        return self.id.partition("::")[0]


class Covering:
    """The tests of some files, by the lines that they execute."""

    def __init__(self) -> None:
        self._by_line: dict[str, dict[int, set[Test]]] = {}
        self._importing: dict[str, set[Test]] = {}
        self.tests = 0
        self.left_out: list[str] = []
        """Tests that fail without a mutant."""

    def add(self, measured: Path) -> None:
        """Read what `measure` wrote of one file of tests."""
        told = json.loads(measured.read_text())
        tests = [Test(name, seconds) for name, seconds in told["tests"]]
        self.tests += len(tests)
        self.left_out += told["failed"]
        for path, lines in told["lines"].items():
            self._importing.setdefault(path, set()).update(tests)
            by_line = self._by_line.setdefault(path, {})
            for line, numbers in lines.items():
                by_line.setdefault(int(line), set()).update(tests[number] for number in numbers)

    def of(self, mutant: Mutant) -> list[Test]:
        """Return the tests that can tell the mutant, the fast ones first.

        They execute one of its lines. For a line that runs when its module is imported, then come those in the folder
        that mirrors the module's, then those that execute another line of it, then those whose files import it.
        """
        by_line = self._by_line.get(mutant.path, {})
        near = {test for line in range(mutant.first, mutant.last + 1) for test in by_line.get(line, ())}
        found = _fast_first(near)
        if not mutant.in_function:
            running = {test for tests in by_line.values() for test in tests}
            far = (self._importing.get(mutant.path, set()) | running) - near
            mirror = f"tests/{Path(mutant.path).parent.as_posix()}/"
            found += sorted(far, key=lambda test: (not test.file.startswith(mirror), test not in running, *_cost(test)))
        return found


def _fast_first(tests: Iterable[Test]) -> list[Test]:
    return sorted(tests, key=_cost)


def _cost(test: Test) -> tuple[float, str]:
    return test.seconds, test.id


class Measuring(NamedTuple):
    """Where measurements are kept, and how pytest is told which tests to take of a file."""

    kept: Path
    select: str

    def of(self, tree: Path, files: Iterable[str], say: Callable[[str], None]) -> Covering:
        """Measure each of these files of tests, unless nothing that it executes has changed since."""
        self.kept.mkdir(parents=True, exist_ok=True)
        covering = Covering()
        for file in files:
            kept = self.kept / (file.replace("/", "~") + ".json")
            if not self._current(kept, tree, file):
                say(f"measuring {file}")
                self._measure(kept, tree, file)
            covering.add(kept)
        return covering

    def _current(self, kept: Path, tree: Path, file: str) -> bool:
        if not kept.exists():
            return False
        told = json.loads(kept.read_text())
        return told.get("select") == self.select and all(
            digest(tree / path) == was for path, was in {file: "", **told["digests"]}.items()
        )

    def _measure(self, kept: Path, tree: Path, file: str) -> None:
        fresh = tree.parent / "measured.json"
        fresh.unlink(missing_ok=True)
        outcome = trial.run(tree, [*(["-m", self.select] if self.select else []), file], MEASURING_S, fresh)
        if not fresh.exists():
            raise RuntimeError(f"{file} could not be measured: {outcome.error or outcome.code}")
        told = json.loads(fresh.read_text())
        told["digests"] = {path: digest(tree / path) for path in (file, *told["lines"])}
        told["select"] = self.select
        kept.write_text(json.dumps(told))
