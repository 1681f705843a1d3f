"""Where an archive's files are: a folder (here), or a bucket (`infra.archive.bucket`)."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from infra import files
from infra.archive.errors import ArchiveDamaged
from infra.archive.manifest import WAY_OUT, ArchivedFile, is_manifest
from infra.archive.writing import described


class ArchivePlace(Protocol):
    """The files of one archive. Its methods wait for disk or network, and raise ArchiveDamaged; only `ask` is async.

    `stream` names a generation; `file` is one of its files, as its manifest has it.
    """

    title: str
    """What messages call it."""

    setting: str
    """The variable that says where it is."""

    near: bool
    """Whether a look costs so little that all who ask look anew."""

    async def ask(self) -> None:
        """Check, at the least cost and within seconds, that the place can be read. Raises ArchiveDamaged if not."""
        ...

    def look(self) -> list[tuple[str, str]]:
        """Return the name of each manifest, sorted, with a text that shows a change: its time or ETag, and its size."""
        ...

    def read_manifests(self, names: Sequence[str]) -> list[bytes]:
        """Return the content of each of these manifests."""
        ...

    def where(self, stream: str, file: ArchivedFile) -> str:
        """Return where a file is, as log lines and errors say it. Raises nothing."""
        ...

    def whole(self, stream: str, file: ArchivedFile) -> Path:
        """Return the path of a file on this machine; a bucket first copies it to its cache, and checks the copy.

        A folder checks nothing: the file may be missing or damaged.
        """
        ...

    def read_range(self, stream: str, file: ArchivedFile, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file from `offset` on; fewer at its end. Raises OSError, too."""
        ...

    def described(self, stream: str, file: ArchivedFile) -> ArchivedFile:
        """Read a file in the place; return its name with the size and checksum found there. Raises OSError, too.

        Of a longer file in a bucket only the first `file.bytes` bytes are in the checksum.
        """
        ...

    def writing_folder(self, stream: str) -> Path:
        """Return the folder in which the files of a generation are written first."""
        ...

    def add(self, stream: str, written: Sequence[ArchivedFile]) -> None:
        """Put these files, which are in `writing_folder`, into the place, durably.

        A `writing_folder` outside the place, such as a bucket's, is then removed. Raises OSError, too.
        """
        ...

    def publish(self, name: str, content: bytes) -> None:
        """Put a manifest into the place, whole or not at all. A folder replaces one of this name.

        Raises ArchiveTaken if a bucket has one of this name with other content; OSError.
        """
        ...


class Folder:
    """A folder on this machine, which may be missing: then nothing is archived."""

    setting = "ARCHIVE_DIR"
    near = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.title = str(path)

    async def ask(self) -> None:
        self.look()

    def look(self) -> list[tuple[str, str]]:
        try:
            with os.scandir(self.path) as entries:
                found = [entry for entry in entries if is_manifest(entry.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ArchiveDamaged(f"the archive {self.title} cannot be read: {error.strerror}. {WAY_OUT}") from error
        return sorted(self._seen_now(entry) for entry in found)

    def _seen_now(self, entry: os.DirEntry[str]) -> tuple[str, str]:
        try:
            stat = entry.stat()
        except OSError as error:  # such as a link to what is not mounted: it must not pass for an empty archive
            raise self._unread(entry.name, error) from error
        return entry.name, f"{stat.st_mtime_ns} {stat.st_size}"

    def read_manifests(self, names: Sequence[str]) -> list[bytes]:
        return [self._content(name) for name in names]

    def _content(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise self._unread(name, error) from error

    def _unread(self, name: str, error: OSError) -> ArchiveDamaged:
        return ArchiveDamaged(f"{self.path / name} cannot be read: {error.strerror}. {WAY_OUT}")

    def where(self, stream: str, file: ArchivedFile) -> str:
        return str(self.path / stream / file.name)

    def whole(self, stream: str, file: ArchivedFile) -> Path:
        return self.path / stream / file.name

    def read_range(self, stream: str, file: ArchivedFile, offset: int, size: int) -> bytes:
        with self.whole(stream, file).open("rb") as opened:
            opened.seek(offset)
            return opened.read(size)

    def described(self, stream: str, file: ArchivedFile) -> ArchivedFile:
        return described(self.whole(stream, file))

    def writing_folder(self, stream: str) -> Path:
        return self.path / stream

    def add(self, stream: str, written: Sequence[ArchivedFile]) -> None:
        """Do nothing: the files were written in their place, as `writing_folder` is there."""

    def publish(self, name: str, content: bytes) -> None:
        files.write(self.path / name, content)
