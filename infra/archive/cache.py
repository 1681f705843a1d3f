"""Keeps copies of the archive's files on this machine, by SHA-256. Above a size, the least recently used ones go."""

import contextlib
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from infra import files
from infra.archive.errors import ArchiveDamaged, CacheUnusable
from infra.archive.manifest import WAY_OUT, ArchivedFile

PIECE: Final = 8 << 20  # bytes


class FileState(NamedTuple):
    """What shows that a copy is another file, or was written to: its inode, its size, the time of the last writing."""

    inode: int
    bytes: int
    written_ns: int


class FileCache:
    """A folder with copies, which several processes may share. Every method raises CacheUnusable for an OSError."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._checked: dict[str, FileState] = {}
        """What the copies whose checksum was right were then, by their names."""

    def path(self, file: ArchivedFile, read: Callable[[int, int], bytes]) -> Path:
        """Return the path of the copy; make it with `read` (offset, size) if there is none, or it is not the file.

        The checksum of a copy that this FileCache did not make is compared once. Any copy's is compared again after it
        was replaced or written to (`FileState`). Another process may remove the copy at any time.

        Raises ArchiveDamaged if what was read is not the file; what `read` raises, but CacheUnusable in place of an
        OSError.
        """
        path = self._folder / file.sha256
        with self._translated():
            self._fetch_unless_whole(path, file, read)
        return path

    def _fetch_unless_whole(self, path: Path, file: ArchivedFile, read: Callable[[int, int], bytes]) -> None:
        if not self._is_whole(path, file):
            with self._unfinished() as made:
                with made.open("wb") as copy:
                    for offset in range(0, file.bytes, PIECE):
                        copy.write(read(offset, min(PIECE, file.bytes - offset)))
                if _digest(made) != file.sha256:
                    raise ArchiveDamaged(f"{file.name} of the archive is not what its manifest says. {WAY_OUT}")
                self._keep(made, path)
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))  # to use it is not to write

    def add(self, file: ArchivedFile, source: Path) -> None:
        """Put a copy of `source`, which is `file`, into the cache; the least recently used other copies may go.

        Its checksum is not compared, neither here nor in this FileCache's `path`, until the copy is changed.
        """
        with self._translated(), self._unfinished() as made:
            shutil.copyfile(source, made)
            self._keep(made, self._folder / file.sha256)

    def _is_whole(self, path: Path, file: ArchivedFile) -> bool:
        try:
            now = _state(path)
            if now != self._checked.get(file.sha256):
                if now.bytes != file.bytes or _digest(path) != file.sha256:
                    return False
                self._checked[file.sha256] = now
        except FileNotFoundError:
            return False
        return True

    @contextlib.contextmanager
    def _unfinished(self) -> Iterator[Path]:
        """Yield the path of a new file beside the copies, locked; remove it in the end, unless it was kept."""
        files.make_folder(self._folder)
        with contextlib.ExitStack() as stack:
            made = None
            while made is None:
                with contextlib.suppress(files.LockTaken):  # by `_keep`, which takes it for abandoned
                    path = files.temporary(self._folder / uuid.uuid4().hex)
                    stack.enter_context(files.exclusive_lock(path))
                    made = path
            stack.callback(made.unlink, missing_ok=True)
            yield made

    def _keep(self, made: Path, path: Path) -> None:
        """Put a new copy in its place; remove abandoned files, and the least recently used copies over `most_bytes`."""
        self._checked[path.name] = _state(made)  # a rename changes none of it
        files.publish(path, made)
        for unfinished in self._folder.glob(f".*{files.TEMPORARY}"):
            with contextlib.suppress(files.LockTaken), files.exclusive_lock(unfinished):
                unfinished.unlink()  # its writer was killed
        total = 0
        for _, size, one in sorted(self._copies(), reverse=True):
            total += size
            if total > self._most_bytes and one != path:
                one.unlink(missing_ok=True)

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        """Yield when each copy was last used, its size, and its path."""
        for path in self._folder.glob("[!.]*"):
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                stat = path.stat()
                yield stat.st_atime, stat.st_size, path

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            at = error.filename or self._folder
            raise CacheUnusable(
                f"the cache of the archive, {at}, cannot be used: {error.strerror}. Make room there, or set "
                "ARCHIVE_CACHE_DIR"
            ) from error


def _state(path: Path) -> FileState:
    stat = path.stat()
    return FileState(stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
