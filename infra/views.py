"""Read models: each a table of its own file, fed from a log of facts, and thrown away without loss.

The position is kept in the transaction that applies what lies before it, so a view is never ahead of or behind itself.
"""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

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
    """What makes a view: name, the facts it reads (all, if none are named), tables, and what records do to them.

    A view whose file was made with other `tables` is dropped and fed again.
    """

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


class Place(NamedTuple):
    """How far a view has read: everything up to `position`; of the stream also when what stands there was stored."""

    position: int
    stored_us: int = 0


START: Final = Place(0)

POSITION = """
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY, position INTEGER, stored_us INTEGER);
CREATE TABLE IF NOT EXISTS made_with (one INTEGER PRIMARY KEY, tables TEXT, whole INTEGER);
"""


class Tables:
    """One projection's file: its tables, and the place up to which they have been fed."""

    def __init__(self, projection: Projection, path: Path, writer: aiosqlite.Connection, reader: aiosqlite.Connection):
        self._projection = projection
        self._schema = POSITION + projection.tables
        self.path = path
        self._writer = writer
        self._reader = reader
        self.place = START
        self.whole = False
        """Whether they had caught up at least once since they were empty: until then they show less than there was."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, projection: Projection, folder: Path) -> AsyncIterator["Tables"]:
        """The tables in this folder, made if missing. Raises StoreSetupError."""
        path = folder / f"{projection.name}.view.sqlite"
        async with contextlib.AsyncExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                # Whatever a power cut takes from a view, its position goes with it: no need to wait for the disk.
                writer = await stack.enter_async_context(connect(path, "NORMAL"))
                reader = await stack.enter_async_context(connect(path, "NORMAL"))
                tables = cls(projection, path, writer, reader)
                await tables._prepare()
            except (sqlite3.Error, OSError) as error:
                raise StoreSetupError(f"{path}: {error}. It is a view: delete it, and it is rebuilt") from error
            yield tables

    async def _prepare(self) -> None:
        await self._writer.executescript(POSITION)
        made = list(await self._writer.execute_fetchall("SELECT tables, whole FROM made_with"))
        if [tables for tables, _ in made] != [self._schema]:
            if made:
                log.warning("the view has other tables now; it is fed again", view=self._projection.name)
            await self.clear()
        else:
            self.whole = bool(made[0][1])
        rows = await self._writer.execute_fetchall("SELECT position, stored_us FROM position")
        self.place = next((Place(*row) for row in rows), START)

    async def clear(self) -> None:
        """Drop everything; the tables are empty, and fed up to nowhere."""
        await self._writer.execute("BEGIN IMMEDIATE")
        found = await self._writer.execute_fetchall(
            "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
        )
        for kind, name in found:
            await self._writer.execute(f'DROP {kind} "{name}"')
        for statement in _statements(self._schema):
            await self._writer.execute(statement)
        await self._writer.execute("INSERT INTO made_with VALUES (1, ?, 0)", (self._schema,))
        await self._writer.commit()
        self.place = START
        self.whole = False

    async def caught_up(self) -> None:
        """From now on they are whole."""
        if not self.whole:
            await self._writer.execute("UPDATE made_with SET whole = 1")
            self.whole = True

    async def apply(self, records: Sequence[Notification], place: Place) -> None:
        """Feed these records; all before `place` has been fed then."""
        # This connection is one task's alone; cut short, the transaction goes with the connection.
        await self._writer.execute("BEGIN IMMEDIATE")
        for sql, rows in self._projection.apply(records):
            if rows:
                await self._writer.executemany(sql, rows)
        await self._writer.execute("INSERT OR REPLACE INTO position VALUES (1, ?, ?)", place)
        await self._writer.commit()
        self.place = place

    async def forget_half_done(self) -> None:
        """After a failure: what was begun and not committed is undone."""
        if self._writer.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                await self._writer.rollback()

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the tables as they are."""
        return [tuple(row) for row in await self._reader.execute_fetchall(sql, parameters)]


def _statements(script: str) -> Iterable[str]:
    """The statements of an SQL script: `executescript` would commit the transaction they are to be part of."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


class View:
    """One projection's tables, following the service's own log."""

    def __init__(self, projection: Projection, store: EventStore, tables: Tables) -> None:
        self._projection = projection
        self._store = store
        self._tables = tables
        self._grown = asyncio.Event()
        self._wanted = asyncio.Event()
        self._moved = asyncio.Condition()
        self._drop = False

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, projection: Projection, store: EventStore, folder: Path) -> AsyncIterator["View"]:
        """The view in this folder, made if missing. Raises StoreSetupError."""
        try:
            head = await store.max_notification_id()
        except StoreError:  # it may heal; the view waits for it
            head = sys.maxsize
        async with Tables.open(projection, folder) as tables:
            if tables.place.position > head:
                raise StoreSetupError(
                    f"{tables.path} has read to position {tables.place.position} of a log that ends at {head}: it is "
                    "another log's. It is a view: delete it, and it is rebuilt"
                )
            yield cls(projection, store, tables)

    def log_has_grown(self) -> None:
        self._grown.set()

    def rebuild(self) -> None:
        """Drop the tables and feed them again from the log's beginning; readers wait meanwhile."""
        self._drop = True
        self._grown.set()
        self._wanted.set()

    async def behind(self) -> int:
        """How many positions of the log it has yet to read. Raises StoreError."""
        if self._drop:
            return await self._store.max_notification_id()
        return max(0, await self._store.max_notification_id() - self._tables.place.position)

    async def run(self) -> None:
        """Follow the log."""
        while True:
            self._grown.clear()
            try:
                more = await self._advance()
            except (StoreError, sqlite3.Error) as error:
                log.warning("a view fell behind; trying again", view=self._projection.name, error=str(error))
                await self._tables.forget_half_done()
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
        if self._drop:
            log.info("rebuilding a view", view=self._projection.name)
            await self._tables.clear()
            self._drop = False
        read = self._tables.place.position
        head = await self._store.max_notification_id()
        records = await self._store.select_notifications(read, CHUNK, self._projection.topics)
        full = len(records) == CHUNK
        position = records[-1].position if full else max(head, records[-1].position if records else 0)
        if records:
            await self._tables.apply(records, Place(position))
        elif position > read:
            self._tables.place = Place(position)  # nothing there that concerns it: not worth a transaction
        async with self._moved:
            self._moved.notify_all()
        return full

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the view as of now or later: whoever read an answer finds what it said. Raises ViewBehind."""
        try:
            head = await self._store.max_notification_id()
            async with asyncio.timeout(PATIENCE_S), self._moved:
                while self._drop or self._tables.place.position < head:
                    self._grown.set()
                    self._wanted.set()
                    await self._moved.wait()
            return await self._tables.select(sql, parameters)
        except (TimeoutError, StoreError, sqlite3.Error) as error:
            raise ViewBehind(f"the view {self._projection.name} has not caught up with the log") from error
