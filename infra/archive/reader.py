"""Reads the archive: a manifest for each archived generation, and its files, wherever they are.

EVENTS.json              the manifest of generation 0
EVENTS/part-000.jsonl.gz its messages: gzip members of at most a thousand lines each
EVENTS/index.sqlite      where each member is, and which ones have the messages of a key (`key_of`)

In a bucket the files have other names (`infra.archive.bucket`).
"""

import gzip
import sqlite3
import zlib
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from contracts.fact import DECODE_ERRORS
from infra.archive.errors import ArchiveDamaged
from infra.archive.lines import ArchivedMessage, key_of, matches, messages
from infra.archive.manifest import (
    INDEX,
    WAY_OUT,
    ArchivedFile,
    ArchivedLog,
    GenerationManifest,
    decoded,
    digest,
    log_of,
)
from infra.archive.places import ArchivePlace, Folder
from infra.sqlite_uri import read_only_uri

_UNREADABLE: Final = (OSError, EOFError, IndexError, zlib.error, sqlite3.Error, *DECODE_ERRORS)


class Block(NamedTuple):
    """Some messages that are compressed together: their place in a file, and the first and last of their sequences.

    `last_ns`: when the broker stored the newest one, in nanoseconds since 1970.
    """

    part: str
    offset: int
    size: int
    first: int
    last: int
    last_ns: int


class _Seen(NamedTuple):
    """What a look found: `ArchivePlace.look`'s answer, the manifests, the SHA-256 of the newest one (empty: none)."""

    names: list[tuple[str, str]]
    manifests: list[GenerationManifest]
    last_digest: str


class Archive:
    """Reads what is archived in a place, such as a folder, which may be missing: then nothing is.

    All but `place` and `has_looked` raise ArchiveDamaged. They wait for the disk. With a bucket, those that read
    messages, and `look`, and before the first `look` all others, wait for the network, too. So a task calls them in a
    thread.
    """

    def __init__(self, place: ArchivePlace | Path) -> None:
        self.place = Folder(place) if isinstance(place, Path) else place
        self._seen: _Seen | None = None

    @property
    def has_looked(self) -> bool:
        """Whether a `look` has succeeded, even if nothing is archived."""
        return self._seen is not None

    @property
    def manifests(self) -> list[GenerationManifest]:
        """The manifests, the oldest generation first: of a folder as they are now, of a bucket as of the last `look`.

        Calls `look` if none has succeeded yet.
        """
        return self._known().manifests

    @property
    def last_digest(self) -> str:
        """The SHA-256 of the newest manifest: the next one's `previous`; empty if there is none."""
        return self._known().last_digest

    def digest_of(self, number: int) -> str:
        """Return the SHA-256 of the manifest of this generation; empty if it is not archived."""
        seen = self._known()
        digests = [*(one.previous for one in seen.manifests[1:]), seen.last_digest][: len(seen.manifests)]
        return next((its for one, its in zip(seen.manifests, digests, strict=True) if one.number == number), "")

    def look(self) -> None:
        """Look which manifests there are now. They are read again only if something has changed."""
        names = self.place.look()
        if self._seen is None or names != self._seen.names:
            sorted_names = sorted((name for name, _ in names), key=_generation)
            contents = list(zip(sorted_names, self.place.read_manifests(sorted_names), strict=True))
            self._seen = _Seen(names, decoded(contents), digest(contents[-1][1]) if contents else "")

    def _known(self) -> _Seen:
        if self.place.near or self._seen is None:
            self.look()
        assert self._seen is not None
        return self._seen

    @property
    def first_kept(self) -> int:
        """The number of the generation after the newest archived one; 0 if none is archived."""
        manifests = self.manifests  # each time, the folder is looked at
        return manifests[-1].number + 1 if manifests else 0

    def of(self, number: int) -> GenerationManifest | None:
        """Return the manifest of this generation; None if it is not archived."""
        return next((one for one in self.manifests if one.number == number), None)

    def log_of(self, service: str) -> ArchivedLog:
        """Return what is archived of a service's log."""
        return log_of(self.manifests, service)

    # Messages ---------------------------------------------------------------------------------------------------------

    def read(
        self,
        manifest: GenerationManifest,
        subjects: Collection[str] = (),
        first: int = 0,
        last: int | None = None,
        since_ns: int = 0,
    ) -> Iterator[list[ArchivedMessage]]:
        """Yield, in lists, the messages of a generation that a NATS filter in `subjects` matches; no filter: all.

        They come in the order of their sequences. A list may be empty. `first` and `last` (None: to the end) are
        sequences, both inclusive; `since_ns`: stored then or later, in ns since 1970. Without wildcards only blocks
        with the filters' keys are read, by the index. With a wildcard in any filter every block within the bounds is.
        """
        end = manifest.last_sequence if last is None else last
        exact = frozenset(subjects)
        keys = {key_of(one) for one in exact}
        by_key = bool(exact) and not any("*" in one or ">" in one for one in exact)
        for block in self.blocks(manifest, keys if by_key else None):
            if block.last < first or block.first > end or block.last_ns < since_ns:
                continue
            yield [
                one
                for one in self.block(manifest, block)
                if first <= one.sequence <= end
                and one.stored_ns >= since_ns
                and (not exact or one.subject in exact or (not by_key and any(matches(f, one.subject) for f in exact)))
            ]

    def blocks(self, manifest: GenerationManifest, keys: Collection[str] | None = None) -> list[Block]:
        """Return a generation's blocks, by sequence. `keys`: only those with a message of one of these; None: all."""
        file = self._file(manifest, INDEX)
        select = "SELECT part, offset, size, first, last, last_ns FROM blocks"
        try:
            with closing(self._opened(manifest, file)) as index:
                if keys is None:
                    return [Block(*row) for row in index.execute(f"{select} ORDER BY number")]
                found: set[Block] = set()
                for key in keys:
                    sql = f"{select} WHERE number IN (SELECT block FROM keys WHERE key = ?)"
                    found |= {Block(*row) for row in index.execute(sql, (key,))}
                return sorted(found, key=lambda block: block.first)
        except _UNREADABLE as error:
            raise self._damaged(manifest, file, error) from error

    def _opened(self, manifest: GenerationManifest, index: ArchivedFile) -> sqlite3.Connection:
        while True:
            path = self.place.whole(manifest.stream, index)
            try:
                return sqlite3.connect(read_only_uri(path, immutable=True), uri=True)
            except sqlite3.OperationalError:
                if self.place.near or path.exists():
                    raise  # else another process has just removed the copy: it is made again

    def block(self, manifest: GenerationManifest, block: Block) -> list[ArchivedMessage]:
        """Read all messages of one block, as `blocks` returned it.

        Raises ArchiveDamaged if it cannot be read, or its first or last sequence is not the one in `block`.
        """
        file = self._file(manifest, block.part)
        try:
            piece = self.place.read_range(manifest.stream, file, block.offset, block.size)
            found = messages(gzip.decompress(piece).splitlines())
            if (found[0].sequence, found[-1].sequence) != (block.first, block.last):
                raise EOFError("it has other messages than the index says")
            return found
        except _UNREADABLE as error:
            raise self._damaged(manifest, file, error) from error

    def _file(self, manifest: GenerationManifest, name: str) -> ArchivedFile:
        found = next((file for file in manifest.files if file.name == name), None)
        if found is None:
            raise ArchiveDamaged(f"the manifest of {manifest.stream} names no file {name}. {WAY_OUT}")
        return found

    def _damaged(self, manifest: GenerationManifest, file: ArchivedFile, error: Exception) -> ArchiveDamaged:
        where = self.place.where(manifest.stream, file)
        return ArchiveDamaged(f"{where} of the archive cannot be read: {error}. {WAY_OUT}")


def _generation(name: str) -> tuple[int, str]:
    """Return what to sort the names of manifests by: EVENTS.json comes first, then EVENTS_1.json and so on."""
    number = name.removesuffix(".json").rpartition("_")[2]
    return (int(number) if number.isdecimal() else 0), name
