"""Read models: tables in a file of their own, fed from facts. The file can be deleted without loss, and made again.

A checkpoint is stored in the transaction that applies the records up to it, or after it. So in the file none is ahead
of the tables.
"""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self

import aiosqlite
import structlog

from infra.code_hash import code_hash
from infra.read_models.errors import RECORDS_FAULT, Rejected, ViewBehind
from infra.store.connection import connect
from infra.store.errors import StoreSetupError, next_step
from infra.store.records import Notification

logger = structlog.get_logger()

CHUNK: Final = 2_000  # records applied in one transaction

Statement = tuple[str, Sequence[Sequence[Any]]]
"""An SQL statement, and a row of parameters for each execution; without rows it is not executed."""


class Projection(Protocol):
    """Defines a view: its name, the fact names that it reads (`topics`; empty: all), and how records change its tables.

    `tables` is the SQL script that makes the tables. A file that was made with another script, or fed by other code
    than this class and what it uses, is emptied and fed again.
    """

    @property
    def name(self) -> str: ...
    @property
    def topics(self) -> Collection[str]: ...
    @property
    def tables(self) -> str: ...
    def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
        """Return the statements that put these records into the tables, in order of execution; execute nothing.

        In a view of a log, the records of one call are in the order of their positions. In a view of the stream they
        may be in any order, and come again.
        """
        ...


class Checkpoint(NamedTuple):
    """How far a view of a log, or one consumer of a view of the stream, has read: all up to `position`, included.

    `position` 0: it has read nothing. For a view of a log, `position` is a log position, and `stored_us` is 0. For a
    consumer, `position` is a message's sequence, and `stored_us` when the broker stored it (µs since 1970).
    """

    position: int
    stored_us: int = 0


START: Final = Checkpoint(0)

POSITION = """
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY, position INTEGER, stored_us INTEGER);
CREATE TABLE IF NOT EXISTS made_with (one INTEGER PRIMARY KEY, tables TEXT, whole INTEGER);
"""

READ: Final = "CREATE TABLE IF NOT EXISTS read (consumer TEXT PRIMARY KEY, position INTEGER, stored_us INTEGER);"
"""The checkpoints of a view of the stream. A consumer of EVENTS that has none here begins at the one in `position`: an
older version kept a single one for all of them there."""


class Tables:
    """One projection's SQLite file: its tables, and how far they have been fed. `open` makes one.

    In a view of a log `checkpoint` says how far; in a view of the stream `checkpoint_of` says it for each consumer.
    Only one task may change the tables at a time; `select` reads through a connection of its own. The methods but
    `roll_back` raise StoreSetupError if the file cannot be used, such as a damaged one; it says why, and what to do.
    """

    def __init__(self, projection: Projection, path: Path, writer: aiosqlite.Connection, reader: aiosqlite.Connection):
        self._projection = projection
        self._schema = POSITION + projection.tables
        self._made_with = f"{self._schema}-- fed by code {code_hash(type(projection))}"
        self.path = path
        self._writer = writer
        self._reader = reader
        self.checkpoint = START
        self._times_emptied = 0
        self._read: dict[str, Checkpoint] = {}
        self.complete = False
        """Whether `caught_up` was called since the tables were last emptied. Before that they may lack older facts.
        Only views of the stream use it."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, projection: Projection, folder: Path) -> AsyncIterator[Self]:
        """Open the projection's file in this folder, made if missing; yield its tables, and close the file at the end.

        A file that was made with another script, or fed by other code, is emptied. Raises StoreSetupError if the file
        cannot be used.
        """
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
                raise _unusable(path, error) from error
            yield tables

    @contextlib.contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from error

    async def _prepare(self) -> None:
        await self._writer.executescript(POSITION + READ)
        made = list(await self._writer.execute_fetchall("SELECT tables, whole FROM made_with"))
        if [tables for tables, _ in made] != [self._made_with]:
            if made:
                logger.warning("the view's tables or code have changed; it is fed again", view=self._projection.name)
            await self.clear()
        else:
            self.complete = bool(made[0][1])
        rows = await self._writer.execute_fetchall("SELECT position, stored_us FROM position")
        self.checkpoint = next((Checkpoint(*row) for row in rows), START)
        rows = await self._writer.execute_fetchall("SELECT consumer, position, stored_us FROM read")
        self._read = {consumer: Checkpoint(*at) for consumer, *at in rows}

    def checkpoint_of(self, consumer: str) -> Checkpoint:
        """Return how far a consumer of a view of the stream has read. `consumer` is the key of its `ConsumerPlace`.

        Without a checkpoint of its own: START, or on EVENTS the one that an older version kept (`READ`).
        """
        return self._read.get(consumer, START if "@" in consumer else self.checkpoint)  # "@": of a later generation

    async def clear(self) -> None:
        """Drop all tables and make empty ones, in one transaction; all checkpoints become START, `complete` false.

        Raises StoreSetupError. After an error or a cancellation, call `roll_back`.
        """
        self._times_emptied += 1
        with self._naming_the_file():
            await self._writer.execute("BEGIN IMMEDIATE")
            found = await self._writer.execute_fetchall(
                "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
            )
            for kind, name in found:
                await self._writer.execute(f'DROP {kind} "{name}"')
            for statement in _statements(READ + self._schema):
                await self._writer.execute(statement)
            await self._writer.execute("INSERT INTO made_with VALUES (1, ?, 0)", (self._made_with,))
            await self._writer.commit()
        self.checkpoint = START
        self._read = {}
        self.complete = False

    async def caught_up(self) -> None:
        """Set `complete`, in the file as well. Repeated calls have no effect.

        Call it once all facts are fed that there were as the session began. Raises StoreSetupError.
        """
        if not self.complete:
            with self._naming_the_file():
                await self._writer.execute("UPDATE made_with SET whole = 1")
            self.complete = True

    async def apply(
        self,
        records: Sequence[Notification],
        checkpoint: Checkpoint | None = None,
        *,
        read: Mapping[str, Checkpoint] | None = None,
    ) -> None:
        """Feed these records and set the checkpoint, if one is given, in one transaction, and commit it.

        A view of the stream has a checkpoint for each consumer: `read` has those to set, as `checkpoint_of` names them.
        Raises Rejected if a record is to blame, StoreSetupError if the file is. After an error or a cancellation, call
        `roll_back`.
        """
        # Only one task uses this connection. If it is cancelled, the transaction ends with the connection.
        with self._naming_the_file():
            await self._writer.execute("BEGIN IMMEDIATE")
            await self._feed(records)
            if checkpoint is not None:
                await self._writer.execute("INSERT OR REPLACE INTO position VALUES (1, ?, ?)", checkpoint)
            if read:
                rows = [(consumer, *at) for consumer, at in read.items()]
                await self._writer.executemany("INSERT OR REPLACE INTO read VALUES (?, ?, ?)", rows)
            await self._writer.commit()
        self.checkpoint = checkpoint or self.checkpoint
        self._read |= read or {}

    async def _feed(self, records: Sequence[Notification]) -> None:
        """Run the projection's statements. Raises Rejected if a record is to blame; sqlite3.Error if the file is."""
        try:
            for sql, rows in self._projection.apply(records):
                if rows:
                    await self._writer.executemany(sql, rows)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not isinstance(error, RECORDS_FAULT):
                raise
            raise Rejected(error) from error

    async def roll_back(self) -> None:
        """Undo the transaction that a failed or canceled `apply` or `clear` left open. No effect without one.

        Raises nothing. A canceled `BEGIN` may still wait in the connection's queue: this waits there after it.
        """
        with contextlib.suppress(sqlite3.Error, ValueError):  # ValueError: closed
            await self._writer.rollback()

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run this SQL on the tables as last committed, and return its rows.

        Raises ViewBehind if the tables were emptied meanwhile; StoreSetupError for any error of SQLite, wrong SQL too.
        """
        times_emptied = self._times_emptied
        with self._naming_the_file():
            rows = [tuple(row) for row in await self._reader.execute_fetchall(sql, parameters)]
        if self._times_emptied != times_emptied:
            raise ViewBehind(f"the view {self._projection.name} is being built")
        return rows


def _unusable(path: Path, error: Exception) -> StoreSetupError:
    way_out = next_step(error, "It is only a view: stop its service, delete it, and it is rebuilt at the start")
    return StoreSetupError(f"{path}: {error}. {way_out}")


def _statements(script: str) -> Iterable[str]:
    """Split an SQL script into its statements. Python's `executescript` would commit the open transaction first."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
