"""The checker's findings, and the places of the facts that they name."""

from collections import Counter
from typing import Final, NamedTuple

MOST_OF_A_KIND: Final = 100
"""Maximum number of findings kept of one invariant: a store with a million damaged records has to be reported, too."""


class Entry(NamedTuple):
    """The place of a fact: at `position` of a service's log, as `version` of a stream."""

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
    """A broken invariant (its number, see `ops.invariants`): `what` is wrong, and `where`."""

    invariant: int
    where: str
    what: str


class Findings:
    """The findings so far, in the order in which they were made."""

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
