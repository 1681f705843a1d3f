"""What became of each mutant, on disk: a line of JSON each, written when it is known."""

import json
from pathlib import Path
from typing import Final, NamedTuple

from tests.mutants.mutate import Mutant

KILLED: Final = "killed"
SLOW: Final = "too slow"
REFUSED: Final = "refused by mypy"
SURVIVED: Final = "survived"
UNTESTED: Final = "no test"
SAME: Final = "no mutant"
"""The change makes no other program: it is not counted."""


class Result(NamedTuple):
    """What became of a mutant."""

    id: str
    group: str
    path: str
    line: int
    name: str
    state: str
    by: str = ""
    """The test that failed."""
    error: str = ""
    tests: str = ""
    """The digest of the tests whose verdict this is: of the one that failed, or of all that passed."""
    seconds: float = 0.0

    @property
    def found(self) -> bool:
        return self.state in {KILLED, SLOW, REFUSED}


class Results:
    """All results in a file. Of two about one mutant the later one counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Result] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                result = Result(**json.loads(line))
                self._known[result.id] = result

    def of(self, mutant: Mutant) -> Result | None:
        """Return what became of a mutant. Its id counts what can be changed, so other rules may give it to another."""
        result = self._known.get(mutant.id)
        return result if result is not None and result.name == mutant.name else None

    def add(self, result: Result) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(result._asdict(), ensure_ascii=False) + "\n")
        self._known[result.id] = result
