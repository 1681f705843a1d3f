"""The embedded event store: one SQLite file per service, on the table of the `eventsourcing` library's own recorder.

One multi-row INSERT per append: a single statement is a transaction of its own, so a cancelled or concurrent caller
can't tear it. `synchronous=FULL` makes each commit wait for the disk; NORMAL loses commits in a power cut.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import aiosqlite
from eventsourcing import persistence

from infra.store.records import History, Notification, Record

MAX_ROWS_PER_INSERT = 4_000
"""SQLite binds at most 32,766 values in a statement; a row takes four."""

BUSY_TIMEOUT_S = 5.0

TAIL = 4_096  # of the newest records, kept in memory
CACHE_KIB = 16_384  # of SQLite's pages per connection; its default of 2 MB is less than the hot part of the index

SCHEMA = """
CREATE TABLE IF NOT EXISTS stored_events (
    originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB,
    PRIMARY KEY (originator_id, originator_version));
CREATE TABLE IF NOT EXISTS snapshots (
    originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB,
    PRIMARY KEY (originator_id, originator_version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checks (one INTEGER PRIMARY KEY, at INTEGER);
"""

SELECT_STREAMS = """
WITH wanted(stream) AS (SELECT value FROM json_each(?1)),
     latest AS (
         SELECT originator_id AS stream, max(originator_version) AS version, topic, state
         FROM snapshots
         WHERE originator_id IN (SELECT stream FROM wanted) AND topic IN (SELECT value FROM json_each(?2))
         GROUP BY originator_id)
SELECT 0, stream, version, topic, state FROM latest
UNION ALL
SELECT 1, originator_id, originator_version, topic, state
FROM wanted CROSS JOIN stored_events ON originator_id = wanted.stream
WHERE originator_version > ifnull((SELECT version FROM latest WHERE latest.stream = wanted.stream), 0)
ORDER BY 2, 1, 3
"""


class StoreSetupError(Exception):
    """The store's file cannot be used as it must be; the message says what is wrong with it."""


class SQLiteStore:
    """EventStore on two aiosqlite connections: one for the writer, one for those who follow the log."""

    def __init__(self, path: Path, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._tail: list[Notification] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator["SQLiteStore"]:
        """The store in this file, made if missing. Raises StoreSetupError."""
        async with AsyncExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = await stack.enter_async_context(connect(path))
                reader = await stack.enter_async_context(connect(path))
                await writer.executescript(SCHEMA)
            except (sqlite3.Error, OSError) as error:
                raise StoreSetupError(f"{path}: {error}") from error
            yield cls(path, writer, reader)

    @classmethod
    @asynccontextmanager
    async def read(cls, path: Path) -> AsyncIterator["SQLiteStore"]:
        """The store in this file for reading alone, beside the process that writes it. Never made. Raises StoreError.

        Hold it while there is something to read, no longer: a process that closes its store while another has it open
        leaves the write-ahead log behind.
        """
        async with AsyncExitStack() as stack:
            with _translated():
                uri = _read_only(path)
                # Where this fails, aiosqlite would leave a thread behind that outlives the event loop.
                sqlite3.connect(uri, uri=True).close()
                reader = await stack.enter_async_context(
                    aiosqlite.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
                )
            yield cls(path, reader, reader)

    async def insert_events(self, records: Sequence[Record]) -> None:
        if not records:
            return
        with _translated():
            try:
                if len(records) > MAX_ROWS_PER_INSERT:
                    self._tail = []  # it will not have these: until the next append the log is read from the file
                    await self._insert_many(records)
                    return
                values = [value for record in records for value in record]
                row = await self._writer.execute_insert(_insert(len(records)), values)
            except BaseException:
                self._tail = []  # recorded or not, the file knows
                raise
        assert row is not None
        # One statement numbers its rows without a gap; the rowid it reports is the last one's.
        self._keep(records, int(row[0]) - len(records) + 1)

    def _keep(self, records: Sequence[Record], first: int) -> None:
        """Keep what was just committed in memory, where those who follow the log closely find it without a query."""
        if self._tail and self._tail[-1].position + 1 != first:
            self._tail = []  # somebody else recorded in between
        elif len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]
        self._tail += [Notification(position, *record) for position, record in enumerate(records, first)]

    async def _insert_many(self, records: Sequence[Record]) -> None:
        """Appends beyond one statement's limit: a transaction on a connection that nobody else uses."""
        async with connect(self._path) as own:
            await own.execute("BEGIN IMMEDIATE")
            await own.executemany(_insert(1), records)
            await own.commit()

    async def select_streams(self, streams: Collection[str], snapshot_topics: Collection[str]) -> dict[str, History]:
        with _translated():
            rows = await self._writer.execute_fetchall(
                SELECT_STREAMS, (json.dumps(list(streams)), json.dumps(list(snapshot_topics)))
            )
        found: dict[str, History] = {}
        for is_event, *columns in rows:
            record = Record(*columns)
            if is_event:
                found.setdefault(record.originator_id, History(None, [])).records.append(record)
            else:
                found[record.originator_id] = History(record, [])
        return found

    async def select_events(
        self, stream: str, gt: int | None, lte: int | None, *, desc: bool, limit: int | None
    ) -> list[Record]:
        """One stream's records past version `gt` up to and with `lte`, as the library's recorders select them."""
        with _translated():
            rows = await self._reader.execute_fetchall(
                "SELECT originator_id, originator_version, topic, state FROM stored_events"
                " WHERE originator_id = ? AND originator_version > ? AND originator_version <= ?"
                f" ORDER BY originator_version {'DESC' if desc else 'ASC'} LIMIT ?",
                (
                    stream,
                    -(1 << 62) if gt is None else gt,
                    1 << 62 if lte is None else lte,
                    -1 if limit is None else limit,
                ),
            )
        return [Record(*row) for row in rows]

    async def select_stream(self, stream: str) -> list[Notification]:
        """One stream's records in their order, with their positions in the log."""
        with _translated():
            rows = await self._reader.execute_fetchall(
                "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events"
                " WHERE originator_id = ? ORDER BY originator_version",
                (stream,),
            )
        return [Notification(*row) for row in rows]

    async def find_all(self, ids: Collection[tuple[str, int]]) -> list[Notification]:
        """Those of these records, by stream and version, that there are."""
        with _translated():
            rows = await self._reader.execute_fetchall(
                "WITH wanted(stream, version) AS"
                " (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
                " SELECT stored_events.rowid, originator_id, originator_version, topic, state"
                " FROM wanted CROSS JOIN stored_events ON originator_id = stream AND originator_version = version",
                (json.dumps(list(ids)),),
            )
        return [Notification(*row) for row in rows]

    async def select_notifications(self, after: int, limit: int, topics: Collection[str] = ()) -> list[Notification]:
        if self._tail and self._tail[0].position <= after + 1:
            newer = self._tail[after + 1 - self._tail[0].position :]
            return [record for record in newer if not topics or record.topic in topics][:limit]
        sql = "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events WHERE rowid > ?"
        if topics:
            sql += " AND topic IN (SELECT value FROM json_each(?))"
        sql += " ORDER BY rowid LIMIT ?"
        with _translated():
            rows = await self._reader.execute_fetchall(
                sql, (after, json.dumps(list(topics)), limit) if topics else (after, limit)
            )
        return [Notification(*row) for row in rows]

    async def max_notification_id(self) -> int:
        # Asked behind the appends: the reader would see a commit before the tail has it, and whoever then read the log
        # from the tail would take it to have nothing more up to this position.
        with _translated():
            ((last,),) = await self._writer.execute_fetchall("SELECT ifnull(max(rowid), 0) FROM stored_events")
        if self._tail and self._tail[-1].position < last:
            self._tail = []  # somebody else recorded behind it
        return int(last)

    async def insert_snapshots(self, snapshots: Sequence[Record]) -> None:
        with _translated():
            await self._writer.executemany("INSERT OR REPLACE INTO snapshots VALUES (?,?,?,?)", snapshots)
            await self._writer.executemany(
                "DELETE FROM snapshots WHERE originator_id = ? AND originator_version < ?",
                [(snapshot.originator_id, snapshot.originator_version) for snapshot in snapshots],
            )

    async def check(self) -> None:
        # A lock can be had on a full disk; a page can't. On a connection of its own, so that nobody waits for this one.
        with _translated():
            async with connect(self._path) as own:
                await own.execute("INSERT OR REPLACE INTO checks VALUES (1, unixepoch())")


@asynccontextmanager
async def connect(path: Path, synchronous: str = "FULL") -> AsyncIterator[aiosqlite.Connection]:
    """A connection in autocommit and WAL mode, with the wanted `synchronous`; raises StoreSetupError if refused."""
    # Where this fails, aiosqlite would leave a thread behind that outlives the event loop.
    sqlite3.connect(path).close()
    # Leaving without closing would leave aiosqlite's thread, and with it the process, waiting for ever.
    async with aiosqlite.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S) as connection:
        await _pragma(connection, "journal_mode=WAL")
        await _pragma(connection, f"synchronous={synchronous}")
        levels = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
        await _pragma(connection, f"cache_size=-{CACHE_KIB}")
        (mode,) = await _pragma(connection, "journal_mode")
        (level,) = await _pragma(connection, "synchronous")
        if mode != "wal" or levels[level] != synchronous:
            raise StoreSetupError(
                f"{path}: wanted journal_mode=wal and synchronous={synchronous}, but got {mode} and {levels[level]}. "
                "Is the file on a file system that SQLite's WAL can use?"
            )
        yield connection


async def _pragma(connection: aiosqlite.Connection, text: str) -> tuple[Any, ...]:
    rows = list(await connection.execute_fetchall(f"PRAGMA {text}"))
    return tuple(rows[0]) if rows else ()


def _read_only(path: Path) -> str:
    """The URI by which SQLite opens this file without making or changing it."""
    return f"{path.absolute().as_uri()}?mode=ro"


@lru_cache
def _insert(rows: int) -> str:
    return "INSERT INTO stored_events VALUES " + ",".join(["(?,?,?,?)"] * rows)


@contextmanager
def _translated() -> Iterator[None]:
    """The library's error for the driver's."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise persistence.IntegrityError(error) from error
    except sqlite3.OperationalError as error:
        raise persistence.OperationalError(error) from error
    except sqlite3.Error as error:
        raise persistence.PersistenceError(error) from error
    except ValueError as error:  # aiosqlite's "no active connection"
        raise persistence.InterfaceError(error) from error
