"""The manifest of a backup: which files it has, their checksums, and what they were made from."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from contracts.fact import DECODE_ERRORS
from infra import files
from infra.archive.manifest import INDEX, file_name
from ops import newer
from ops.errors import Found, Unusable
from ops.newer import FoundNewer

FORMAT: Final = 1
NAME: Final = "manifest.json"
ARCHIVE: Final = "archive"
"""The folder in a backup with the archived generations, as they are in ARCHIVE_DIR; of a bucket the manifests."""
STREAM_META: Final = "backup.json"
STREAM_DATA: Final = ("stream.arc.s2", "stream.tar.s2")
"""The names that `nats backup` gives a snapshot's files. The data has one of two, by the server's version."""


class NotABackup(Unusable):
    """The folder has no manifest that this version can use. The message names the folder and the reason."""


class StoreCopy(Struct):
    """The copy of one service's store: `file`, by its path in the backup.

    `store_id`: the id of the store that was copied; empty if that has none. `facts`: how many facts the copy has, at
    the positions 1 to `facts`. `last`: the id of its last fact; null: it has none. `left_out`: how many facts that were
    recorded during the backup are left out, because the copies lack the cause of the fact or of an earlier one.
    """

    file: str
    store_id: str
    facts: int
    last: str | None
    left_out: int


class StreamSnapshot(Struct):
    """The snapshot of one stream; `folder`, in the backup, has the files that `nats backup restore stream` takes, too.

    `messages`: how many the snapshot has. `last_sequence`: of its last message. `created`: when the stream was made.
    """

    folder: str
    messages: int
    last_sequence: int
    created: str


class Manifest(Struct):
    """What a backup has. `stores`: by service. `streams`: by name; empty: of the stores alone, or there were none.

    `checksums`: SHA-256 (hex) of each file but this manifest, by its path in the backup. `versions`: of Python, SQLite
    and, unless the backup is of the stores alone, nats-server. `archived`: the archived generations, by the names of
    their streams. `bucket`: where the archive's files are, if the backup has only their manifests; empty: the backup
    has the files, too, or nothing is archived.
    """

    format: int
    made_at: datetime
    stores: dict[str, StoreCopy]
    streams: dict[str, StreamSnapshot]
    checksums: dict[str, str]
    versions: dict[str, str]
    archived: list[str] = []
    bucket: str = ""


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into the backup's folder, durably. Raises OSError."""
    files.write(folder / NAME, msgspec.json.format(msgspec.json.encode(manifest)))


def read(folder: Path) -> Manifest:
    """Read the manifest of the backup in this folder. Raises NotABackup."""
    try:
        manifest = msgspec.json.decode((folder / NAME).read_bytes(), type=Manifest)
    except OSError as error:
        raise NotABackup(f"{folder} is not a backup: {NAME} cannot be read: {error.strerror}") from error
    except DECODE_ERRORS as error:
        raise NotABackup(f"{folder} is not a backup that this version can read: {NAME}: {error}") from error
    if manifest.format != FORMAT:
        raise NotABackup(
            f"{folder} is a backup of format {manifest.format}, and this version reads format {FORMAT}. "
            "Restore it with the version that made it"
        )
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in _named(manifest)):
        raise NotABackup(f"{folder} is not a backup: {NAME} names a file outside the folder")
    return manifest


def _named(manifest: Manifest) -> Iterator[str]:
    yield from manifest.checksums
    yield from (copy.file for copy in manifest.stores.values())
    yield from (snapshot.folder for snapshot in manifest.streams.values())
    yield from (name for kept in (manifest.stores, manifest.streams, manifest.archived) for name in _plain(kept))


def _plain(kept: Iterable[str]) -> Iterator[str]:
    for name in kept:
        yield name if "/" not in name else ".."


def newer_facts(folder: Path, manifest: Manifest) -> dict[str, FoundNewer]:
    """Search the stores of the backup for facts of newer code; return what was found, by service.

    A service without such facts is left out. Raises Found if a store cannot be read.
    """
    found = {}
    for service, copy in manifest.stores.items():
        try:
            found[service] = newer.in_store(folder / copy.file)
        except sqlite3.Error as error:
            raise Found(f"the backup in {folder} is damaged: {copy.file} cannot be read: {error}") from error
    return {service: facts for service, facts in found.items() if facts.facts}


def verify(folder: Path, manifest: Manifest) -> None:
    """Compare each file of the backup that has a checksum with its checksum.

    Raises Found if such a file is missing or differs, or if a file of a store or stream, or an archived generation's
    manifest or index, has no checksum. Of an archive in a bucket no index is needed.
    """
    for name, expected in manifest.checksums.items():
        try:
            found = checksum(folder / name)
        except OSError as error:
            raise Found(f"the backup in {folder} is damaged: {name} cannot be read: {error.strerror}") from error
        if found != expected:
            raise Found(f"the backup in {folder} is damaged: {name} has changed. Use another one")
    for names in _needed(manifest):
        if manifest.checksums.keys().isdisjoint(names):
            raise Found(f"the backup in {folder} is damaged: {NAME} has no checksum of {' or '.join(names)}")


def _needed(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    """Yield a tuple for each file that must have a checksum: its path in the backup, or its possible paths."""
    yield from ((copy.file,) for copy in manifest.stores.values())
    for snapshot in manifest.streams.values():
        yield (f"{snapshot.folder}/{STREAM_META}",)
        yield tuple(f"{snapshot.folder}/{name}" for name in STREAM_DATA)
    yield from ((f"{ARCHIVE}/{file_name(stream)}",) for stream in manifest.archived)
    if not manifest.bucket:
        yield from ((f"{ARCHIVE}/{stream}/{INDEX}",) for stream in manifest.archived)
