"""Tries the mutants of a group that no earlier run tried, and prints what became of all."""

import time
from pathlib import Path
from typing import Final

from tests.mutants import trial
from tests.mutants.covering import Measuring
from tests.mutants.groups import Group
from tests.mutants.mutate import Mutant
from tests.mutants.report import enough, figures, line_of, listed
from tests.mutants.results import SAME, Result, Results
from tests.mutants.session import Session, Undecided
from tests.mutants.tree import copied

SELECT: Final = "not processes and not slow"
"""The tests that call the code in their own process."""


class Recipe:
    """The mutants of one repository."""

    def __init__(self, root: Path, kept: Path, *, typed: bool = True) -> None:
        """`kept` is the folder of results and measurements. `typed`: whether mypy holds for the repository."""
        self._root, self._typed = root, typed
        self._measuring = Measuring(kept / "measured", SELECT)
        self.results = Results(kept / "results.jsonl")

    def run(self, group: Group, seed: int, end: float = float("inf")) -> bool:
        """Try what is left of a group until `end` (monotonic), print its figures, return whether enough was found."""
        trial.preload()
        with copied(self._root) as tree:
            files = group.tested_by(tree)
            covering = self._measuring.of(tree, files, _say)
            _say(f"{group.name}: {covering.tests:,} tests in {len(files)} files")
            for test in covering.left_out:
                _say(f"left out, it fails without a mutant: {test}")
            session = Session(tree, covering, self.results, typed=self._typed)
            return self._reach(group, seed, session, end)

    def report(self, group: Group, seed: int) -> bool:
        """Print the figures of a group so far, and return whether enough was found."""
        return self._reach(group, seed, None, 0.0)

    def _reach(self, group: Group, seed: int, session: Session | None, end: float) -> bool:
        told: list[Result] = []
        waiting = 0
        for mutant in group.drawn(self._root, seed):
            result = self._tell(group, mutant, session, end)
            if result is None:
                waiting += 1
            elif result.state != SAME:
                told.append(result)
        for line in (figures(group, told, waiting), *listed(told)):
            _say(line)
        return waiting == 0 and enough(told)

    def _tell(self, group: Group, mutant: Mutant, session: Session | None, end: float) -> Result | None:
        if session is None:
            return self.results.of(mutant)
        known = session.known(mutant)
        if known is not None or time.monotonic() > end:
            return known
        try:
            result = session.tell(group.name, mutant)
        except Undecided as error:
            _say(f"left for the next run: {error}")
            return None
        if result.state != SAME:
            _say(line_of(result))
        return result


def _say(line: str) -> None:
    print(line, flush=True)
