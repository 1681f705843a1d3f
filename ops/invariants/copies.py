"""The two copies of history: service logs and stream, fact by fact.

Of every logged fact one machine word is kept: 63 bits of its body's digest, and one that says whether the stream has
it. That is all that grows with the number of facts.
"""

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

from ops.invariants.findings import Entry, Findings

ABSENT: Final = 0
STREAMED: Final = 1  # the lowest bit of a word
WIDEST_GAP: Final = 10_000
"""A version further ahead than this is not believed: one damaged number must not take all memory."""


def word(body: bytes) -> int:
    """The digest of a body as a word; never ABSENT, and not marked STREAMED."""
    return (int.from_bytes(blake2b(body, digest_size=8).digest()) & ~STREAMED) or 2


class LoggedFacts:
    """The word of every fact in the logs, by stream and version."""

    def __init__(self) -> None:
        self._streams: dict[str, array[int]] = {}

    def last_version(self, stream: str) -> int:
        return len(self._streams.get(stream, ()))

    def get(self, stream: str, version: int) -> int:
        words = self._streams.get(stream)
        return ABSENT if words is None or not 0 < version <= len(words) else words[version - 1]

    def has(self, fact_id: str) -> bool:
        return self.get(*parsed(fact_id)) != ABSENT

    def put(self, stream: str, version: int, value: int) -> None:
        words = self._streams.get(stream)
        if words is None:
            words = self._streams[stream] = array("Q")
        while len(words) < version:
            words.append(ABSENT)
        words[version - 1] = value

    def not_streamed(self) -> Iterator[str]:
        """The ids of the facts that were not seen in the stream, oldest streams first."""
        for stream, words in self._streams.items():
            for version, value in enumerate(words, 1):
                if value != ABSENT and not value & STREAMED:
                    yield f"{stream}@{version}"


def parsed(fact_id: str) -> tuple[str, int]:
    """Stream and version; version 0, which no fact has, if it is not the id of a fact."""
    stream, _, version = fact_id.rpartition("@")
    return (stream, int(version)) if version.isascii() and version.isdecimal() and len(version) < 19 else (fact_id, 0)


class Versions:
    """7. Versions gapless, event ids unique (that causes exist: see Causes)."""

    def __init__(self, facts: LoggedFacts, findings: Findings) -> None:
        self._facts = facts
        self._findings = findings
        self._positions: dict[str, int] = {}

    def logged(self, entry: Entry) -> bool:
        """Judge a fact that is about to be entered; false if it can't be."""
        before = self._positions.get(entry.service, 0)
        if entry.position <= before:
            self._findings.add(7, entry, f"stands behind position {before}: the log is not in its order")
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
    """7. Causes exist. They may come after their effects here: each log is fed on its own."""

    def __init__(self, facts: LoggedFacts, findings: Findings) -> None:
        self._facts = facts
        self._findings = findings
        self._awaited: dict[str, Entry] = {}

    def logged(self, entry: Entry) -> None:
        if self._awaited:
            self._awaited.pop(entry.fact_id, None)

    def named(self, entry: Entry, cause: str) -> None:
        if cause == entry.fact_id:
            self._findings.add(7, entry, "names itself as its cause")
        elif not self._facts.has(cause):
            self._awaited.setdefault(cause, entry)

    def finish(self) -> None:
        for cause, entry in self._awaited.items():
            self._findings.add(7, entry, f"names a cause that does not exist: {cause}")


class Copies:
    """8. Service logs = stream, as sets by fact id with equal bytes, when quiet.

    A fact may stand in the stream several times, always with the same bytes, and before its cause. While not quiet the
    logs may be ahead of the stream, but never behind it: it is fed from them.
    """

    def __init__(self, facts: LoggedFacts, findings: Findings) -> None:
        self._facts = facts
        self._findings = findings
        self._early: dict[str, tuple[int, int]] = {}

    def logged(self, entry: Entry, body: bytes) -> None:
        value = word(body)
        early = self._early.pop(entry.fact_id, None) if self._early else None
        if early is not None:
            sequence, streamed = early
            self._compare(sequence, entry.fact_id, value, streamed)
            value |= STREAMED
        self._facts.put(entry.stream, entry.version, value)

    def streamed(self, sequence: int, fact_id: str, body: bytes) -> None:
        stream, version = parsed(fact_id)
        value, logged = word(body), self._facts.get(stream, version)
        if logged != ABSENT:
            self._compare(sequence, fact_id, logged, value)
            self._facts.put(stream, version, logged | STREAMED)
        elif fact_id in self._early:
            self._compare(sequence, fact_id, self._early[fact_id][1], value)
        else:
            self._early[fact_id] = (sequence, value)

    def _compare(self, sequence: int, fact_id: str, one: int, other: int) -> None:
        if one & ~STREAMED != other:
            self._findings.add(8, _place(sequence, fact_id), "has other bytes than this fact has elsewhere")

    def finish(self, *, quiet: bool) -> None:
        for fact_id, (sequence, _) in self._early.items():
            self._findings.add(8, _place(sequence, fact_id), "stands in no service's log")
        if quiet:
            for fact_id in self._facts.not_streamed():
                self._findings.add(8, fact_id, "is missing from the stream")


def _place(sequence: int, fact_id: str) -> str:
    return f"stream, sequence {sequence}, {fact_id}"
