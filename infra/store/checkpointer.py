"""Moves the write-ahead log into the store's file, always on the connection that records.

SQLite 3.7.0 to 3.51.2, except for BACKPORTS, can corrupt a file when one connection moves the log while another one
commits. So no other connection moves it, and SQLite's own move after 1,000 pages is off.
"""

import asyncio
import contextlib
import sqlite3
from typing import Final

import aiosqlite
import structlog

from infra.store.errors import StoreError
from infra.store.identity import FIELDS, Identity, new_id, next_ending
from infra.store.place import StoreFiles

logger = structlog.get_logger()

PAGES: Final = 3_000
"""The log is moved once about this many pages, 12 MB, may have been written to it."""

FIXED_IN: Final = (3, 51, 3)
BACKPORTS: Final = ((3, 44, 6), (3, 50, 7))


def is_affected(version: tuple[int, int, int]) -> bool:
    """Whether this version of SQLite (major, minor, patch) can corrupt a file in the way that the module describes."""
    return (3, 7, 0) <= version < FIXED_IN and not any(
        version[:2] == fixed[:2] and version >= fixed for fixed in BACKPORTS
    )


class Checkpointer:
    """Moves the write-ahead log of `writer` into its file from time to time; notes there which log follows which."""

    def __init__(self, writer: aiosqlite.Connection, place: StoreFiles, pages: int = PAGES) -> None:
        self._writer = writer
        self._place = place
        self._limit = pages
        self._pages = 0
        self.lock = asyncio.Lock()
        """Held while the log is moved, and while another connection than `writer` commits; a check waits for both."""
        self._task: asyncio.Task[None] | None = None

    def recorded(self, records: int) -> None:
        """Note that `records` records were just committed; begin to move the log if it may be long. Return at once.

        Call this after every commit, with 0 after one of something else, such as a check. A move that fails is tried
        again after later commits.
        """
        self._pages += 2 * records + 4  # a page of the table and one of its index, at most, and inner pages
        if self._pages >= self._limit and (self._task is None or self._task.done()):
            self._pages = self._limit // 2
            self._task = asyncio.create_task(self._try_to_move())

    async def _try_to_move(self) -> None:
        # ValueError: the connection was closed.
        with contextlib.suppress(sqlite3.Error, StoreError, ValueError):
            await self.move()

    async def finished(self) -> None:
        """Wait until the move that has begun, if any, has ended."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def move(self) -> None:
        """Move the log into the file, and begin the next log.

        While a connection of any process reads an older state, the log is moved only up to that state. While one reads
        at all, the next log does not begin. If the file is missing or another one, the place gets `trouble`.

        Raises sqlite3.Error; StoreSetupError if another program goes on writing to the file.
        """
        async with self.lock:
            with self._place.moving():
                await self._move()
            await self._place.compare(self.identity)  # somebody may have overwritten the file meanwhile

    async def _move(self) -> None:
        ending = next_ending((await self.identity()).ending)
        await self._writer.execute("UPDATE identity SET ending = ?", (ending,))
        ((busy,),) = await self._writer.execute_fetchall("PRAGMA busy_timeout")
        await self._writer.execute("PRAGMA busy_timeout = 0")  # nobody waits for a reader
        try:
            ((unfinished, *_),) = await self._writer.execute_fetchall("PRAGMA wal_checkpoint(RESTART)")
        finally:
            await self._writer.execute(f"PRAGMA busy_timeout = {busy}")
        if not unfinished:
            await self._writer.execute("UPDATE identity SET wal = ?, follows = ?", (new_id(), ending))
            self._pages = 0

    async def look(self) -> None:
        """Look whether the store's files are in place and its own; if they are not, the place gets `trouble`.

        Raises sqlite3.Error; StoreSetupError if another program goes on writing to the file.
        """
        if not self._place.look() and self._place.trouble is None:
            await self._place.compare(self.identity)

    async def identity(self) -> Identity:
        """Return the identity as last committed. Raises sqlite3.Error."""
        ((*values,),) = await self._writer.execute_fetchall(f"SELECT {FIELDS} FROM identity")
        return Identity(*values)


def log_affected(version: tuple[int, int, int]) -> None:
    """Log that this version of SQLite is an affected one, if it is. Nothing is wrong, so it is no warning."""
    if is_affected(version):
        logger.info(
            "SQLite before 3.51.3 has the WAL-reset bug; this service avoids it, since one connection alone writes. "
            "Let other programs only read the store (docs/operating.md)",
            version=".".join(map(str, version)),
        )
