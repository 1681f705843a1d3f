"""Read models: each a table of its own file, fed from a log of facts, and thrown away without loss.

The position is kept in the transaction that applies what lies before it, so a view is never ahead of or behind itself.
"""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import aiosqlite
import structlog

from infra.store.records import Notification
from infra.store.sqlite import StoreSetupError, connect

logger = structlog.get_logger()

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


class Checkpoint(NamedTuple):
    """How far a view has read: everything up to `position`; of the stream also when what stands there was stored."""

    position: int
    stored_us: int = 0


START: Final = Checkpoint(0)

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
        self.checkpoint = START
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
                logger.warning("the view has other tables now; it is fed again", view=self._projection.name)
            await self.clear()
        else:
            self.whole = bool(made[0][1])
        rows = await self._writer.execute_fetchall("SELECT position, stored_us FROM position")
        self.checkpoint = next((Checkpoint(*row) for row in rows), START)

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
        self.checkpoint = START
        self.whole = False

    async def caught_up(self) -> None:
        """From now on they are whole."""
        if not self.whole:
            await self._writer.execute("UPDATE made_with SET whole = 1")
            self.whole = True

    async def apply(self, records: Sequence[Notification], checkpoint: Checkpoint) -> None:
        """Feed these records; all before `checkpoint` has been fed then."""
        # This connection is one task's alone; cut short, the transaction goes with the connection.
        await self._writer.execute("BEGIN IMMEDIATE")
        for sql, rows in self._projection.apply(records):
            if rows:
                await self._writer.executemany(sql, rows)
        await self._writer.execute("INSERT OR REPLACE INTO position VALUES (1, ?, ?)", checkpoint)
        await self._writer.commit()
        self.checkpoint = checkpoint

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
