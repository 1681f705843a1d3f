"""The archive on this machine: a manifest for each archived generation, and the folder with its files beside it.

EVENTS.json              the manifest of generation 0
EVENTS/part-000.jsonl.gz its messages: gzip members of at most a thousand lines each
EVENTS/index.sqlite      where each member is, and which have a key
"""

import gzip
import os
import re
import sqlite3
import zlib
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from infra.archive.errors import ArchiveDamaged
from infra.archive.lines import ArchivedMessage, key_of, matches, messages
from infra.archive.manifest import INDEX, WAY_OUT, ArchivedLog, GenerationManifest, decoded, digest, log_of

_UNREADABLE: Final = (OSError, EOFError, IndexError, zlib.error, sqlite3.Error, msgspec.DecodeError, UnicodeDecodeError)


_MANIFEST: Final = re.compile(r"EVENTS(?:_[1-9][0-9]*)?\.json\Z")
"""The names of manifests. Other files in the folder are not the archive's."""


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


class Archive:
    """Reads what is archived in a folder, which may be missing: then nothing is.

    All but `path` raise ArchiveDamaged, and wait for the disk: a task calls those that read messages in a thread.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: list[tuple[str, int, int]] | None = None
        self._manifests: list[GenerationManifest] = []
        self._last_digest = ""

    @property
    def manifests(self) -> list[GenerationManifest]:
        """The manifests, the oldest generation first; read again only if a file has changed."""
        seen = self._look()
        if seen != self._seen:
            contents = [(name, self._content(name)) for name in sorted((one[0] for one in seen), key=_generation)]
            self._manifests = decoded(contents)
            self._last_digest = digest(contents[-1][1]) if contents else ""
            self._seen = seen
        return self._manifests

    @property
    def last_digest(self) -> str:
        """The SHA-256 of the newest manifest: the next one's `previous`; empty if there is none."""
        return self._last_digest if self.manifests else ""

    def digest_of(self, number: int) -> str:
        """Return the SHA-256 of the manifest of this generation; empty if it is not archived."""
        digests = [*(one.previous for one in self.manifests[1:]), self._last_digest]
        return next((its for one, its in zip(self._manifests, digests, strict=False) if one.number == number), "")

    def _look(self) -> list[tuple[str, int, int]]:
        try:
            with os.scandir(self.folder) as entries:
                found = [entry for entry in entries if _MANIFEST.match(entry.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ArchiveDamaged(f"the archive {self.folder} cannot be read: {error.strerror}") from error
        return sorted(self._seen_now(entry) for entry in found)

    def _seen_now(self, entry: os.DirEntry[str]) -> tuple[str, int, int]:
        try:
            stat = entry.stat()
        except OSError as error:  # such as a link to what is not mounted: it must not pass for an empty archive
            raise self._unread(entry.name, error) from error
        return entry.name, stat.st_mtime_ns, stat.st_size

    def _content(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise self._unread(name, error) from error

    def _unread(self, name: str, error: OSError) -> ArchiveDamaged:
        return ArchiveDamaged(f"{self.folder / name} cannot be read: {error.strerror}. {WAY_OUT}")

    @property
    def first_kept(self) -> int:
        """The number after that of the newest archived generation; 0 without one."""
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
        """Yield the messages of a generation, in lists by their sequence: those that a filter in `subjects` matches.

        No filter: all. A list may be empty. `first` and `last` are sequences, both inclusive; `since_ns`: stored then
        or later. The index leads to a key; with a wildcard in any filter all that is in the bounds is read.
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
        """Return the places of a generation's blocks, in the order of their sequences; with `keys`: that have one."""
        path = self.path(manifest, INDEX)
        select = "SELECT part, offset, size, first, last, last_ns FROM blocks"
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as index:
                if keys is None:
                    return [Block(*row) for row in index.execute(f"{select} ORDER BY number")]
                found: set[Block] = set()
                for key in keys:
                    sql = f"{select} WHERE number IN (SELECT block FROM keys WHERE key = ?)"
                    found |= {Block(*row) for row in index.execute(sql, (key,))}
                return sorted(found, key=lambda block: block.first)
        except _UNREADABLE as error:
            raise self._damaged(path, error) from error

    def block(self, manifest: GenerationManifest, block: Block) -> list[ArchivedMessage]:
        """Read one block: all of it, or it is damaged."""
        path = self.path(manifest, block.part)
        try:
            with path.open("rb") as file:
                file.seek(block.offset)
                found = messages(gzip.decompress(file.read(block.size)).splitlines())
            if (found[0].sequence, found[-1].sequence) != (block.first, block.last):
                raise EOFError("it has other messages than the index says")
            return found
        except _UNREADABLE as error:
            raise self._damaged(path, error) from error

    def path(self, manifest: GenerationManifest, name: str) -> Path:
        """Return the path of a file of this generation."""
        return self.folder / manifest.stream / name

    def _damaged(self, path: Path, error: Exception) -> ArchiveDamaged:
        return ArchiveDamaged(f"{path} of the archive cannot be read: {error}. {WAY_OUT}")


def _generation(name: str) -> tuple[int, str]:
    """Return what to sort the names of manifests by: EVENTS.json comes first, then EVENTS_1.json and so on."""
    number = name.removesuffix(".json").rpartition("_")[2]
    return (int(number) if number.isdecimal() else 0), name
