"""Read models: each a table of its own file, fed from the service's own log, and thrown away without loss.

The position is kept in the transaction that applies what lies before it, so a view is never ahead of or behind itself.
"""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import aiosqlite
import structlog

from infra.sqlite import StoreSetupError, connect
from infra.store import EventStore, Notification, StoreError

log = structlog.get_logger()

CHUNK: Final = 2_000  # records applied in one transaction
PAUSE_S: Final = 0.25  # a view that nobody waits for trails the log by this much, and costs the orders next to nothing

RETRY_S: Final = 1.0
PATIENCE_S: Final = 5.0  # of a reader with a view that is catching up

Statement = tuple[str, Sequence[Sequence[Any]]]
"""SQL and the rows it is executed with."""


class Projection(Protocol):
    """What makes a view: name, the facts it reads (all, if none are named), tables, and what records do to them."""

    @property
    def name(self) -> str: ...
    @property
    def topics(self) -> Collection[str]: ...
    @property
    def tables(self) -> str: ...
    def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
        """The changes that these records, in log order, make."""
        ...


class ViewBehind(Exception):
    """The view cannot be read as of now; it is catching up."""


class View:
    """One projection's tables, following the log."""

    def __init__(
        self, projection: Projection, store: EventStore, writer: aiosqlite.Connection, reader: aiosqlite.Connection
    ) -> None:
        self._projection = projection
        self._store = store
        self._writer = writer
        self._reader = reader
        self._position = 0
        self._grown = asyncio.Event()
        self._wanted = asyncio.Event()
        self._moved = asyncio.Condition()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, projection: Projection, store: EventStore, folder: Path) -> AsyncIterator["View"]:
        """The view in this folder, made if missing. Raises StoreSetupError."""
        path = folder / f"{projection.name}.view.sqlite"
        try:
            head = await store.max_notification_id()
        except StoreError:  # it may heal; the view waits for it
            head = sys.maxsize
        async with contextlib.AsyncExitStack() as stack:
            try:
                # Whatever a power cut takes from a view, its position goes with it: no need to wait for the disk.
                writer = await stack.enter_async_context(connect(path, "NORMAL"))
                reader = await stack.enter_async_context(connect(path, "NORMAL"))
                await writer.executescript(
                    f"{projection.tables};\n"
                    "CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY, position INTEGER);"
                )
                rows = await writer.execute_fetchall("SELECT position FROM position")
                position = next((int(row[0]) for row in rows), 0)
                if position > head:
                    raise StoreSetupError(
                        f"{path} has read to position {position} of a log that ends at {head}: it is another log's. "
                        "It is a view: delete it, and it is rebuilt"
                    )
            except sqlite3.Error as error:
                raise StoreSetupError(f"{path}: {error}. It is a view: delete it, and it is rebuilt") from error
            view = cls(projection, store, writer, reader)
            view._position = position
            yield view

    def log_has_grown(self) -> None:
        self._grown.set()

    async def run(self) -> None:
        """Follow the log."""
        while True:
            self._grown.clear()
            try:
                more = await self._advance()
            except (StoreError, sqlite3.Error) as error:
                log.warning("a view fell behind; trying again", view=self._projection.name, error=str(error))
                await self._forget_half_done()
                await asyncio.sleep(RETRY_S)
                continue
            if not more:
                await self._grown.wait()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_S):
                        await self._wanted.wait()
                self._wanted.clear()

    async def _advance(self) -> bool:
        """Apply the next chunk; true if there is more."""
        head = await self._store.max_notification_id()
        records = await self._store.select_notifications(self._position, CHUNK, self._projection.topics)
        full = len(records) == CHUNK
        position = records[-1].position if full else max(head, records[-1].position if records else 0)
        if records:
            await self._apply(records, position)
        self._position = max(self._position, position)
        async with self._moved:
            self._moved.notify_all()
        return full

    async def _apply(self, records: Sequence[Notification], position: int) -> None:
        # This connection is this task's alone; cut short, the transaction goes with the connection.
        await self._writer.execute("BEGIN IMMEDIATE")
        for sql, rows in self._projection.apply(records):
            if rows:
                await self._writer.executemany(sql, rows)
        await self._writer.execute("INSERT OR REPLACE INTO position VALUES (1, ?)", (position,))
        await self._writer.commit()

    async def _forget_half_done(self) -> None:
        if self._writer.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                await self._writer.rollback()

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the view as of now or later: whoever read an answer finds what it said. Raises ViewBehind."""
        try:
            head = await self._store.max_notification_id()
            async with asyncio.timeout(PATIENCE_S), self._moved:
                while self._position < head:
                    self._grown.set()
                    self._wanted.set()
                    await self._moved.wait()
            return [tuple(row) for row in await self._reader.execute_fetchall(sql, parameters)]
        except (TimeoutError, StoreError, sqlite3.Error) as error:
            raise ViewBehind(f"the view {self._projection.name} has not caught up with the log") from error
