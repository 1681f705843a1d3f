"""The two copies of history: service logs and stream, fact by fact.

One word of every logged fact is kept, 63 bits of its body's digest, so that a repeat can be compared at any later time.
The facts that the stream still lacks are kept apart.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from ops.invariants.findings import Entry, Findings
from ops.invariants.memory import Memory

ABSENT: Final = 0
WORD: Final = 8  # bytes
PAGE: Final = 256  # words
WIDEST_GAP: Final = 10_000
"""A version further than this above its stream's last one is damaged: one wrong number must not take all memory.

It is a finding, and is not kept.
"""


def word(body: bytes) -> int:
    """Return 63 bits of the body's BLAKE2b digest as a number that is never ABSENT."""
    return int.from_bytes(blake2b(body, digest_size=8).digest()) >> 1 or 1


class Page(Struct, array_like=True):
    """The words of up to PAGE consecutive versions of an aggregate's stream, by index from 0.

    `last`: the stream's last version; it is up to date only on the stream's newest page.
    """

    last: int = 0
    words: bytearray = msgspec.field(default_factory=bytearray)

    def get(self, index: int) -> int:
        return int.from_bytes(self.words[WORD * index : WORD * (index + 1)])

    def put(self, index: int, value: int) -> None:
        self.words[WORD * index : WORD * (index + 1)] = value.to_bytes(WORD)


class LoggedFacts:
    """Keeps the word (see `word`) of every fact in the logs, by aggregate's stream and version; ABSENT: no such fact.

    The key of a stream's newest page is the stream's name, that of an older page `<stream>#<number>`. So the page in
    use of a busy stream is as small as any.
    """

    def __init__(self, memory: Memory) -> None:
        self._pages = memory.many("facts", Page)

    def last_version(self, stream: str) -> int:
        page = self._pages.get(stream)
        return 0 if page is None else page.last

    def get(self, stream: str, version: int) -> int:
        newest = self._pages.get(stream)
        if newest is None or not 0 < version <= newest.last:
            return ABSENT
        return self._page(stream, newest, version).get((version - 1) % PAGE)

    def has(self, fact_id: str) -> bool:
        return self.get(*parsed(fact_id)) != ABSENT

    def put(self, stream: str, version: int, value: int) -> None:
        """Keep `value` as the word of this version (from 1). Skipped versions before it become ABSENT."""
        newest = self._pages.get(stream)
        if newest is None:
            newest = self._pages[stream] = Page()
        while newest.last < version:
            if newest.last and newest.last % PAGE == 0:
                self._pages[f"{stream}#{newest.last // PAGE - 1}"] = Page(newest.last, newest.words)
                newest.words = bytearray()
            newest.last += 1
            newest.words += bytes(WORD)
        self._page(stream, newest, version).put((version - 1) % PAGE, value)

    def _page(self, stream: str, newest: Page, version: int) -> Page:
        """Return the page of this version, which the stream must have. `newest`: the stream's newest page."""
        number = (version - 1) // PAGE
        if number == (newest.last - 1) // PAGE:
            return newest
        page = self._pages.get(f"{stream}#{number}")
        assert page is not None
        return page


def parsed(fact_id: str) -> tuple[str, int]:
    """Split a fact id into stream and version. Another text is returned with version 0, which no fact has."""
    stream, _, version = fact_id.rpartition("@")
    return (stream, int(version)) if version.isascii() and version.isdecimal() and len(version) < 19 else (fact_id, 0)


class Versions:
    """Checks invariant 7: versions gapless, event ids unique, and each log in the order of its positions.

    That causes exist is checked by Causes.
    """

    def __init__(self, facts: LoggedFacts, findings: Findings, memory: Memory) -> None:
        self._facts = facts
        self._findings = findings
        self._positions = memory.few("positions", int)

    def logged(self, entry: Entry) -> bool:
        """Judge a fact's position and version before it is kept in LoggedFacts, and remember its position.

        Returns whether the fact can be kept. False: its version is already there, below 1, or too far ahead (see
        WIDEST_GAP); that is always a finding. A gap or a wrong order that can be kept is a finding, too.
        """
        before = self._positions.get(entry.service, 0)
        if entry.position <= before:
            self._findings.add(7, entry, f"comes after position {before}: the log is not in its order")
        self._positions[entry.service] = entry.position
        last = self._facts.last_version(entry.stream)
        if entry.version == last + 1:
            return True
        if entry.version > last:
            self._findings.add(7, entry, f"follows version {last}: what lies between is missing")
            return entry.version <= last + WIDEST_GAP
        if self._facts.has(entry.fact_id):
            self._findings.add(7, entry, "is a second fact with this id")
        else:
            self._findings.add(7, entry, f"comes after version {last}")
            return entry.version > 0
        return False


class Causes:
    """Checks invariant 7: causes exist. A cause may be fed after its effect, because each log is fed on its own.

    A fact of newer code may have its cause in the log of a service that this version does not have. So a cause that
    only such facts name is not judged if no log has a stream of its category, such as `order`.
    """

    def __init__(self, facts: LoggedFacts, findings: Findings, memory: Memory) -> None:
        self._facts = facts
        self._findings = findings
        self._categories = memory.few("categories", int)
        """Category of the streams that a log has → 1."""
        self._of_newer: set[str] = set()
        """Those of `awaited` that facts of newer code alone name."""
        self.awaited: dict[str, Entry] = {}
        """Id of a cause that has not been fed yet → the first fact that names it."""

    def logged(self, entry: Entry) -> None:
        category = _category(entry.stream)
        if category not in self._categories:
            self._categories[category] = 1
        if self.awaited:
            self.awaited.pop(entry.fact_id, None)

    def named(self, entry: Entry, cause: str, *, newer: bool) -> None:
        """Take the cause that the fact at `entry` names. `newer`: the fact is of newer code."""
        if cause == entry.fact_id:
            self._findings.add(7, entry, "names itself as its cause")
        elif not self._facts.has(cause):
            if not newer:
                self._of_newer.discard(cause)
            elif cause not in self.awaited:
                self._of_newer.add(cause)
            self.awaited.setdefault(cause, entry)

    def finish(self) -> None:
        for cause, entry in self.awaited.items():
            if cause not in self._of_newer or _category(cause) in self._categories:
                self._findings.add(7, entry, f"names a cause that does not exist: {cause}")


def _category(stream: str) -> str:
    return stream.partition("-")[0]


class Copies:
    """Checks invariant 8: service logs = stream, as sets by fact id with equal bytes, when quiet.

    A fact may be in the stream several times, always with the same bytes. It may come there before its cause. While not
    quiet the stream may lack facts of the logs after `published` (see Checker.finish). The logs must have every fact of
    the stream, because the stream is fed from them.
    """

    def __init__(self, facts: LoggedFacts, findings: Findings, memory: Memory) -> None:
        self._facts = facts
        self._findings = findings
        self._early: dict[str, tuple[int, int]] = {}
        self._unpublished = memory.many("unpublished", Entry)
        """Fact id → the fact's place in its log, of the facts that the stream has not had yet."""

    def logged(self, entry: Entry, body: bytes) -> None:
        value = word(body)
        early = self._early.pop(entry.fact_id, None) if self._early else None
        if early is not None:
            sequence, streamed = early
            self._compare(sequence, entry.fact_id, value, streamed)
        else:
            self._unpublished[entry.fact_id] = entry
        self._facts.put(entry.stream, entry.version, value)

    def streamed(self, sequence: int, fact_id: str, body: bytes) -> None:
        self._unpublished.remove(fact_id)
        value, logged = word(body), self._facts.get(*parsed(fact_id))
        if logged != ABSENT:
            self._compare(sequence, fact_id, logged, value)
        elif fact_id in self._early:
            self._compare(sequence, fact_id, self._early[fact_id][1], value)
        else:
            self._early[fact_id] = (sequence, value)

    def _compare(self, sequence: int, fact_id: str, one: int, other: int) -> None:
        if one != other:
            what = f"has other bytes than this fact has elsewhere. {_known(sequence)}"
            self._findings.add(8, _place(sequence, fact_id), what)

    def finish(self, published: Mapping[str, int], *, quiet: bool) -> None:
        for fact_id, (sequence, _) in self._early.items():
            self._findings.add(
                8,
                _place(sequence, fact_id),
                f"is in no service's log: the log lost it, or it is foreign. {_known(sequence)}",
            )
        for entry in self._unpublished.values():
            if quiet or entry.position <= published.get(entry.service, 0):
                self._findings.add(8, entry, "is missing from the stream")


def _known(sequence: int) -> str:
    return f"If a person has judged this message to be foreign: just audit --foreign {sequence}"


def _place(sequence: int, fact_id: str) -> str:
    return f"stream, sequence {sequence}, {fact_id}"
