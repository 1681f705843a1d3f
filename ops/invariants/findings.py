"""The checker's findings, and the places of the facts that they name."""

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from contracts.fact import Fact

MOST_OF_A_KIND: Final = 100
"""Maximum number of findings kept of one invariant; the others are counted.

A store with a million damaged records has to be reported, too.
"""


class Entry(NamedTuple):
    """The place of a fact: at `position` of a service's log, and at `version` of an aggregate's stream."""

    service: str
    position: int
    stream: str
    version: int

    @property
    def fact_id(self) -> str:
        return f"{self.stream}@{self.version}"

    def __str__(self) -> str:
        return f"{self.service} log, position {self.position}, {self.fact_id}"


class Finding(NamedTuple):
    """One violation of an invariant, in words: `where` it is and `what` is wrong.

    `invariant`: its number in `ops.invariants`; 0: history differs from what an earlier audit read, or a
    file is damaged. 11 is for a foreign message of EVENTS.
    """

    invariant: int
    where: str
    what: str


Explains = Callable[[int, object, Fact | None], bool]
"""Whether a finding (invariant, where, the fact at hand) is none, because facts of newer code may explain it."""


class Findings:
    """Collects findings in the order in which they are made, at most MOST_OF_A_KIND of an invariant.

    `all` returns them, then one for each invariant with more, which says how many were left out. `fact` is the fact at
    hand, set by the checker; None at the end of history.
    """

    def __init__(self, explained: Explains = lambda *_: False) -> None:
        """`explained` is asked of each finding as it is made, and in the end again of those that are kept."""
        self._explained = explained
        self._kept: list[tuple[Finding, object, Fact | None]] = []
        self._counts: Counter[int] = Counter()
        self.fact: Fact | None = None

    def add(self, invariant: int, where: object, what: str) -> None:
        if self._explained(invariant, where, self.fact):
            return
        self._counts[invariant] += 1
        if self._counts[invariant] <= MOST_OF_A_KIND:
            self._kept.append((Finding(invariant, str(where), what), where, self.fact))

    def all(self) -> list[Finding]:
        left_out = [
            Finding(invariant, "everywhere", f"and {count - MOST_OF_A_KIND} more findings of this kind")
            for invariant, count in sorted(self._counts.items())
            if count > MOST_OF_A_KIND
        ]
        kept = [found for found, where, fact in self._kept if not self._explained(found.invariant, where, fact)]
        return kept + left_out
