"""Read models: tables in a file of their own, fed from a log of facts, and deleted without loss.

The checkpoint is stored in the transaction that applies the records before it, so tables and checkpoint never differ.
"""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import aiosqlite
import structlog

from infra.core.errors import NotNow
from infra.store.connection import connect
from infra.store.errors import StoreSetupError
from infra.store.records import Notification

logger = structlog.get_logger()

CHUNK: Final = 2_000  # records applied in one transaction

Statement = tuple[str, Sequence[Sequence[Any]]]
"""An SQL statement, and a row of parameters for each execution."""


class Projection(Protocol):
    """Defines a view: its name, the facts it reads (`topics`; empty: all), its tables, and how records change them.

    A view whose file was made with other `tables` is dropped and fed again.
    """

    @property
    def name(self) -> str: ...
    @property
    def topics(self) -> Collection[str]: ...
    @property
    def tables(self) -> str: ...
    def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
        """The changes that these records make, in log order."""
        ...


class ViewBehind(NotNow):
    """The view cannot be read as of now, because it is catching up."""


class Checkpoint(NamedTuple):
    """How far a view has read: everything up to `position`.

    `stored_us`: for a view of the stream, when the broker stored the message there (µs since 1970); otherwise 0.
    """

    position: int
    stored_us: int = 0


START: Final = Checkpoint(0)

POSITION = """
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY, position INTEGER, stored_us INTEGER);
CREATE TABLE IF NOT EXISTS made_with (one INTEGER PRIMARY KEY, tables TEXT, whole INTEGER);
"""


class Tables:
    """One projection's file: its tables, and the checkpoint up to which they have been fed."""

    def __init__(self, projection: Projection, path: Path, writer: aiosqlite.Connection, reader: aiosqlite.Connection):
        self._projection = projection
        self._schema = POSITION + projection.tables
        self.path = path
        self._writer = writer
        self._reader = reader
        self.checkpoint = START
        self.complete = False
        """Whether the tables have caught up at least once since they were empty. Before that they lack older facts."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, projection: Projection, folder: Path) -> AsyncIterator["Tables"]:
        """The tables in this folder, made if missing. Raises StoreSetupError."""
        path = folder / f"{projection.name}.view.sqlite"
        async with contextlib.AsyncExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                # A power cut loses the checkpoint together with its rows, so no commit has to wait for the disk.
                writer = await stack.enter_async_context(connect(path, "NORMAL"))
                reader = await stack.enter_async_context(connect(path, "NORMAL"))
                tables = cls(projection, path, writer, reader)
                await tables._prepare()
            except (sqlite3.Error, OSError) as error:
                raise StoreSetupError(f"{path}: {error}. It is only a view: delete it, and it is rebuilt") from error
            yield tables

    async def _prepare(self) -> None:
        await self._writer.executescript(POSITION)
        made = list(await self._writer.execute_fetchall("SELECT tables, whole FROM made_with"))
        if [tables for tables, _ in made] != [self._schema]:
            if made:
                logger.warning("the view has other tables now; it is fed again", view=self._projection.name)
            await self.clear()
        else:
            self.complete = bool(made[0][1])
        rows = await self._writer.execute_fetchall("SELECT position, stored_us FROM position")
        self.checkpoint = next((Checkpoint(*row) for row in rows), START)

    async def clear(self) -> None:
        """Drop everything: the tables are empty, and the checkpoint is the beginning."""
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
        self.checkpoint = START
        self.complete = False

    async def caught_up(self) -> None:
        """Remember that the tables are complete."""
        if not self.complete:
            await self._writer.execute("UPDATE made_with SET whole = 1")
            self.complete = True

    async def apply(self, records: Sequence[Notification], checkpoint: Checkpoint) -> None:
        """Feed these records, and move the checkpoint, in one transaction."""
        # Only one task uses this connection. If it is cancelled, the transaction ends with the connection.
        await self._writer.execute("BEGIN IMMEDIATE")
        for sql, rows in self._projection.apply(records):
            if rows:
                await self._writer.executemany(sql, rows)
        await self._writer.execute("INSERT OR REPLACE INTO position VALUES (1, ?, ?)", checkpoint)
        await self._writer.commit()
        self.checkpoint = checkpoint

    async def roll_back(self) -> None:
        """After a failure: undo a transaction that was begun and not committed."""
        if self._writer.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                await self._writer.rollback()

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the tables as last committed."""
        return [tuple(row) for row in await self._reader.execute_fetchall(sql, parameters)]


def _statements(script: str) -> Iterable[str]:
    """The statements of an SQL script; `executescript` would commit the transaction they are part of."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
