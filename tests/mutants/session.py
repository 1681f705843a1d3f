"""Tries mutants one after the other, and asks no question twice whose answer cannot have changed."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.mutants import trial
from tests.mutants.covering import Covering, Test
from tests.mutants.mutate import Mutant
from tests.mutants.results import KILLED, REFUSED, SAME, SLOW, SURVIVED, UNTESTED, Result, Results
from tests.mutants.tree import digest, replaced

FIRST_S: Final = 2.0
"""The fast tests that run first take so long together, without a mutant."""
FIRST_FILES: Final = 5
MOST_S: Final = 20.0
"""All tests of one mutant take so long together, without it; slower ones are left out."""
TIMES: Final = 5.0
"""A trial that takes so many times the time without a mutant, and START_S, of CPU is ended: the mutant is found."""
START_S = 10.0


class Undecided(Exception):
    """The tests neither passed nor failed, such as on a full disk: nothing is known of the mutant."""


class Session:
    """Mutants of one tree."""

    def __init__(self, tree: Path, covering: Covering, results: Results, *, typed: bool) -> None:
        """`typed`: whether mypy is asked about those that all tests pass."""
        self._tree, self._covering, self._results, self._typed = tree, covering, results, typed
        self._killers: dict[str, Counter[Test]] = {}

    def known(self, mutant: Mutant) -> Result | None:
        """Return the result of a mutant, if its tests are as they were then."""
        result = self._results.of(mutant)
        if result is None or result.state == SAME:
            return result
        if result.state in {KILLED, SLOW}:
            current = self._digest([result.by])
        else:
            current = self._digest(test.id for test in self._covering.of(mutant))
        return result if result.tests == current else None

    def tell(self, group: str, mutant: Mutant) -> Result:
        """Return the result of a mutant, and try it first if none is known."""
        known = self.known(mutant)
        if known is not None:
            return known
        source = mutant.make()
        told = Result(mutant.id, group, mutant.path, mutant.first, mutant.name, SAME)
        if source is not None:
            with replaced(self._tree / mutant.path, source):
                told = self._try(mutant, told)
        self._results.add(told)
        return told

    def _try(self, mutant: Mutant, about: Result) -> Result:
        tests = self._covering.of(mutant)
        killers = self._killers.setdefault(mutant.path, Counter())
        for stage in _stages(tests, [test for test, _ in killers.most_common() if test in set(tests)]):
            unmutated = sum(test.seconds for test in stage)
            outcome = trial.run(self._tree, [test.id for test in stage], START_S + TIMES * unmutated)
            if outcome.code == trial.NOT_BEGUN:  # then the whole files, by whatever names their tests have now
                files = dict.fromkeys(test.file for test in stage)
                outcome = trial.run(self._tree, list(files), START_S + TIMES * (unmutated + 60.0))
            about = about._replace(seconds=round(about.seconds + outcome.seconds, 1))
            if outcome.code == trial.PASSED:
                continue
            by = outcome.failed or stage[0].id
            killers.update(test for test in stage if test.id == by)
            late = outcome.code is None
            if not (late or (outcome.failed and outcome.code in trial.FAILED) or outcome.code == trial.NOT_BEGUN):
                raise Undecided(f"pytest ended with {outcome.code} on {mutant.id} {mutant.name}: {outcome.error}")
            state = SLOW if late else KILLED
            return about._replace(state=state, by=by, error=outcome.error, tests=self._digest([by]))
        state = SURVIVED if tests else UNTESTED
        if self._typed and (error := self._refused(mutant.path)):
            return about._replace(state=REFUSED, error=error, tests=self._digest(test.id for test in tests))
        return about._replace(state=state, tests=self._digest(test.id for test in tests))

    def _refused(self, path: str) -> str:
        """Return mypy's first error; empty if it has none."""
        command = [sys.executable, "-m", "mypy", "--no-error-summary", path]
        done = subprocess.run(command, cwd=self._tree, capture_output=True, text=True, check=False)
        return done.stdout.splitlines()[0][:300] if done.returncode == 1 and done.stdout else ""

    def _digest(self, tests: Iterable[str]) -> str:
        """Of the tests and of what their files have in them."""
        names = sorted(set(tests))
        files = sorted({name.partition("::")[0] for name in names})
        return sha256("\n".join([*names, *(digest(self._tree / file) for file in files)]).encode()).hexdigest()[:16]


def _stages(tests: list[Test], killers: list[Test]) -> Iterator[list[Test]]:
    """Cut the tests into two runs: what found mutants of this module before, and what is fast; then the rest."""
    first = killers[:5]
    files = {test.file for test in first}
    left = FIRST_S
    for test in tests:
        files.add(test.file)
        left -= test.seconds
        if left < 0 or len(files) > FIRST_FILES:
            break
        if test not in first:
            first.append(test)
    rest, left = [], MOST_S
    for test in tests:
        if test not in first and test.seconds < left:
            left -= test.seconds
            rest.append(test)
    yield from (stage for stage in (first, rest) if stage)
