"""The checker's findings, and the places of the facts that they name."""

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Final, NamedTuple, Protocol

from contracts.fact import Fact
from ops.invariants.memory import InProcess, Memory, Table

MOST_OF_A_KIND: Final = 100
"""Maximum number of findings shown of one invariant; the others are counted.

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


class Explains(Protocol):
    """Says which findings are none, because facts of newer code, read until now, may explain them."""

    def subjects(self, invariant: int, where: object, fact: Fact | None) -> Collection[str]:
        """Return what a finding is about, such as `product mug`; nothing if no fact of newer code can ever explain it.

        `fact` is the one at hand; None if there is none.
        """

    def explains(self, subjects: Collection[str]) -> bool:
        """Whether a finding about these subjects is to be dropped."""


class _Open(NamedTuple):
    """The finding with this number, and what it is about. A fact of newer code that comes later may explain it."""

    number: int
    finding: Finding
    subjects: list[str]


class Findings:
    """Collects findings in the order in which they are made.

    `all` returns at most MOST_OF_A_KIND (100) of an invariant, then one for each invariant with more, which says how
    many were left out. `fact` is the fact at hand, set by the checker; None if there is none.
    """

    def __init__(self, newer: Explains | None = None, memory: Memory | None = None) -> None:
        """`newer` is asked about each finding as it is made, and in `all` again; None: no finding is dropped.

        `memory` keeps the findings that facts of newer code, read later, may explain; None: this process keeps them.
        The others are in this process: the first MOST_OF_A_KIND of an invariant; further ones are only counted.
        """
        self._newer = newer
        self._open: Table[_Open] = (memory or InProcess()).many("open_findings", _Open)
        self._certain: list[_Open] = []
        self._counts: Counter[int] = Counter()
        self._made = 0
        self.fact: Fact | None = None

    def add(self, invariant: int, where: object, what: str) -> None:
        subjects = () if self._newer is None else self._newer.subjects(invariant, where, self.fact)
        if self._explained(subjects):
            return
        self._made += 1
        found = _Open(self._made, Finding(invariant, str(where), what), list(subjects))
        if subjects:
            self._open[f"{self._made:012}"] = found
            return
        self._counts[invariant] += 1
        if self._counts[invariant] <= MOST_OF_A_KIND:
            self._certain.append(found)

    def all(self) -> list[Finding]:
        counts = self._counts.copy()
        kept: dict[int, list[_Open]] = defaultdict(list)
        for found in self._certain:
            kept[found.finding.invariant].append(found)
        for found in self._open.values():
            if self._explained(found.subjects):
                continue
            counts[found.finding.invariant] += 1
            first = kept[found.finding.invariant]
            first.append(found)
            if len(first) > 2 * MOST_OF_A_KIND:
                first[:] = sorted(first)[:MOST_OF_A_KIND]
        shown = sorted(found for first in kept.values() for found in sorted(first)[:MOST_OF_A_KIND])
        left_out = [
            Finding(invariant, "everywhere", f"and {count - MOST_OF_A_KIND} more findings of this kind")
            for invariant, count in sorted(counts.items())
            if count > MOST_OF_A_KIND
        ]
        return [found.finding for found in shown] + left_out

    def _explained(self, subjects: Collection[str]) -> bool:
        return self._newer is not None and bool(subjects) and self._newer.explains(subjects)
