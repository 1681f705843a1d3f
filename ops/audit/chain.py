"""A hash chain over a log: each link is the SHA-256 of the link before it and of one record, so any change shows.

A link is SHA-256 over the digest of the link before it (32 zero bytes before the first), the line
`<position> <stream> <version> <topic>` with its line feed, and the record's body, byte for byte.
"""

from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Final

from infra.store.records import Notification

BEGIN: Final = bytes(32)
LINK_EVERY: Final = 10_000  # positions


class HashChain:
    """Computes the chain over one log from its records; keeps the digests at every 10,000th and watched position."""

    def __init__(self, watched: Collection[int] = ()) -> None:
        """Begin before the log's first record. `watched`: positions whose links are kept, too."""
        self.position = 0
        self.records = 0
        self.links: dict[int, str] = {0: BEGIN.hex()}
        """Kept position, if it has a record → the digest (hex) of its link; 0 → the digest before the first link."""
        self._digest = BEGIN
        self._watched = frozenset(watched)

    @property
    def digest(self) -> str:
        """The digest (hex) of the last record's link; before any record, 64 zeros."""
        return self._digest.hex()

    def take(self, records: Sequence[Notification]) -> None:
        """Add these records to the chain. They must follow the last record taken, in log order; this is not checked."""
        digest = self._digest
        for position, stream, version, topic, body in records:
            line = f"{position} {stream} {version} {topic}\n".encode()
            digest = sha256(b"%b%b%b" % (digest, line, body)).digest()
            if position % LINK_EVERY == 0 or position in self._watched:
                self.links[position] = digest.hex()
        if records:
            self.position = records[-1].position
            self.records += len(records)
        self._digest = digest
