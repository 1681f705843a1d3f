"""Finds out that the files of an open store were deleted, replaced or overwritten: new records would be lost.

An open file stays usable after it was deleted. So a commit would succeed, and nobody would ever find its records.
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import structlog

from infra.store.errors import StoreSetupError, shows_damage
from infra.store.identity import Identity, belongs, companions, read

logger = structlog.get_logger()

ATTEMPTS: Final = 5
TICK_NS: Final = 100_000_000
PAUSE_S: Final = 0.1
"""Between two attempts to read the file while another process may be moving its write-ahead log into it."""

Entries = tuple[int, int, int]
"""Device and inode of a folder, and the time of the last change (ns) of its entries.

Changes within one tick of the kernel's clock, a few milliseconds, get the same time.
"""

Numbers = tuple[int, int]
"""Device and inode of a file, or the time of its last change (ns) and its size."""


class StoreFiles:
    """The files of one open store. `trouble` says in words why nothing may be recorded in them any more; None: it may.

    `refuse` sets it, and nothing but a restart takes it back.
    """

    def __init__(self, path: Path, service: str) -> None:
        self._path = path
        self._parent = str(path.parent)
        self._wal, _ = companions(path)
        self._name = service or path.parent.name
        self._file: Numbers | None = None
        self._log: Numbers | None = None
        self._content: Numbers | None = None
        self._folder: Entries | None = None
        self.trouble: str | None = None

    def remember(self) -> None:
        """Take the files as they are now for the right ones. Without this call `look` finds no fault.

        Raises OSError if one is missing.
        """
        self._folder = self.entries()
        self._file, self._log = _inode(self._path.stat()), _inode(self._wal.stat())
        self.moved()

    @contextlib.contextmanager
    def moving(self) -> Iterator[None]:
        """Inside the context the owner moves the write-ahead log into the file: `look` ignores what that changes."""
        self._content = None
        try:
            yield
        finally:
            self.moved()

    def moved(self) -> None:
        """Remember when the file was changed last, and its size: its owner has just left it so."""
        with contextlib.suppress(OSError):  # it is missing: `look` says so
            self._content = _content(self._path.stat())

    def require(self) -> None:
        """Raise StoreSetupError if nothing may be recorded any more. Looks at no file."""
        if self.trouble is not None:
            raise StoreSetupError(self.trouble)

    def entries(self) -> Entries | None:
        """Return device, inode and time of the last change of the store's folder.

        None: the folder cannot be looked at, or changed in the last 0.1 s. Any thread may call it.
        """
        try:
            found = os.stat(self._parent)  # noqa: PTH116 - for each commit, and Path.stat takes half as long again
        except OSError:
            return None
        if time.time_ns() - found.st_mtime_ns < TICK_NS:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns

    def glance(self, folder: Entries | None) -> bool:
        """Return whether all is well with the files. This calls `look` only if their folder may have changed.

        `folder` is what `entries` returned after the commit. There is no look if `folder` is not None and the same as
        when `remember` or a glance last found all well. Then a file that was overwritten in its place goes unnoticed.
        """
        if self.trouble is None and folder is not None and folder == self._folder:
            return True
        if not self.look():
            return False
        self._folder = folder
        return True

    def look(self) -> bool:
        """Look whether the files are in place, and return whether all is well. If one is not, set `trouble` and log it.

        False while `trouble` is None: somebody else has written to the file. Then call `compare`.
        """
        if self.trouble is not None or self._file is None:
            return self.trouble is None
        try:
            file, log = self._path.stat(), self._wal.stat()
        except OSError as error:
            self._refuse_missing(error)
            return False
        if (_inode(file), _inode(log)) != (self._file, self._log):
            self.refuse(f"{self._path} or its write-ahead log was replaced under the running service")
            return False
        return self._content in (None, _content(file))

    async def compare(self, identity: Callable[[], Awaitable[Identity]]) -> None:
        """Compare the file with the identity that the store's own connection reads.

        If the file is another one, or missing, set `trouble`. Raises StoreSetupError if another program is still
        writing to it after all attempts; the errors of `identity`.
        """
        try:
            await self._compare(identity)
        except OSError as error:
            self._refuse_missing(error)

    async def _compare(self, identity: Callable[[], Awaitable[Identity]]) -> None:
        for _ in range(ATTEMPTS):
            content = _content(self._path.stat())
            found = await identity()
            try:
                own = belongs(read(self._path, alone=True), found)
            except sqlite3.Error:
                own = False
            if own:  # a second process of the service, against the rule, has moved the log into the file
                self._content = content
                return
            await asyncio.sleep(PAUSE_S)  # the other process may be about to move it
        if content != _content(self._path.stat()):
            raise StoreSetupError(f"{self._path} is being overwritten by another program")
        self.refuse(f"{self._path} was overwritten under the running service")

    def judge(self, error: BaseException) -> None:
        """Set `trouble` and raise StoreSetupError if this error of a write shows that the file is damaged."""
        if shows_damage(error):
            if self.trouble is None:
                self.refuse(f"{self._path} is damaged: {error}")
            self.require()

    def _refuse_missing(self, error: OSError) -> None:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            self.refuse(f"{error.filename} was deleted or moved away under the running service")
        else:
            self.refuse(f"{error.filename} cannot be looked at any more: {error.strerror or error}")

    def refuse(self, why: str) -> None:
        """Set `trouble` to `why` and the next steps, so that nothing is recorded any more; log it as an error."""
        self.trouble = (
            f"{why}, so nothing is recorded any more. Facts published so far are in the stream: stop {self._name}_svc, "
            f"put the right store back or rebuild it from the stream (just rebuild {self._name}; --lose-damaged if the "
            "old file cannot be read), start it again, then just audit"
        )
        logger.error("the store is lost or damaged: recording is stopped", reason=self.trouble)


def _inode(found: os.stat_result) -> Numbers:
    return found.st_dev, found.st_ino


def _content(found: os.stat_result) -> Numbers:
    return found.st_mtime_ns, found.st_size
