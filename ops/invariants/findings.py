"""The checker's findings, and the places of the facts that they name."""

from collections import Counter
from typing import Final, NamedTuple

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
    file is damaged.
    """

    invariant: int
    where: str
    what: str


class Findings:
    """Collects findings in the order in which they are made, at most MOST_OF_A_KIND of an invariant.

    `all` returns them, then one for each invariant with more, which says how many were left out.
    """

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._counts: Counter[int] = Counter()

    def add(self, invariant: int, where: object, what: str) -> None:
        self._counts[invariant] += 1
        if self._counts[invariant] <= MOST_OF_A_KIND:
            self._kept.append(Finding(invariant, str(where), what))

    def all(self) -> list[Finding]:
        left_out = [
            Finding(invariant, "everywhere", f"and {count - MOST_OF_A_KIND} more findings of this kind")
            for invariant, count in sorted(self._counts.items())
            if count > MOST_OF_A_KIND
        ]
        return self._kept + left_out
