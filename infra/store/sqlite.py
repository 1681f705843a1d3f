"""The embedded event store: one SQLite file per service, with the table of the `eventsourcing` library's own recorder.

An append of up to MAX_ROWS_PER_INSERT records is one multi-row INSERT. A single statement is a transaction of its own,
so a canceled or concurrent caller can't tear it. `synchronous=FULL` makes each commit wait for the disk; NORMAL loses
commits in a power cut.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Self

from infra.store import moved as moved_facts
from infra.store.checkpointer import Checkpointer
from infra.store.connection import ConnectStore, StoreConnection, connect, connect_read_only, translated
from infra.store.errors import StoreSetupError, next_step, rebuild
from infra.store.opening import opening
from infra.store.place import StoreFiles
from infra.store.records import Notification, Record, StreamHistory
from infra.store.statements import SELECT_STREAMS, insert
from infra.store.tail import TAIL_RECORDS, Tail

MAX_ROWS_PER_INSERT: Final = 4_000
"""The most records that one statement appends. SQLite binds at most 32,766 values in a statement; a row takes four."""


class SQLiteStore:
    """Keeps one service's log and snapshots in an SQLite file: an EventStore, made by `open` or `read`.

    In a store that `open` made, `select_notifications`, `select_stream` and `find_all` use a second connection, so they
    do not wait for appends.
    """

    def __init__(
        self,
        path: Path,
        writer: StoreConnection,
        reader: StoreConnection,
        place: StoreFiles,
        checkpointer: Checkpointer,
        *,
        connect: ConnectStore = connect,
        max_rows: int = MAX_ROWS_PER_INSERT,
        tail_records: int = TAIL_RECORDS,
        has_moved: bool = False,
    ) -> None:
        """`connect` opens a connection of its own for each append of more than `max_rows` records.

        `tail_records` is how many of the newest records the tail keeps at least. `has_moved`: see EventStore. After
        trouble in `place` the log can be read, but nothing is recorded or decided.
        """
        self.has_moved = has_moved
        self._path = path
        self.place = str(path.absolute())
        self._writer = writer
        self._reader = reader
        self._place = place
        self._checkpointer = checkpointer
        self._connect = connect
        self._max_rows = max_rows
        self._tail = Tail(tail_records)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: Path,
        *,
        service: str = "",
        connect: ConnectStore = connect,
        max_rows: int = MAX_ROWS_PER_INSERT,
        tail_records: int = TAIL_RECORDS,
        moved: moved_facts.Moved | None = None,
    ) -> AsyncIterator["SQLiteStore"]:
        """Open the store in this file to read and write it, and close it at the end. Raises StoreSetupError.

        File and folder are made if there were none. With `service` the file must be the store in which this service has
        recorded so far. `connect` opens every connection of the store. `moved`: the facts that older code may have
        recorded in other streams; `select_streams` finds them by the streams of today. The others: see `__init__`.
        """
        async with AsyncExitStack() as stack:
            try:
                opened = await stack.enter_async_context(opening(path, service, connect))
                has_moved = await moved_facts.index(opened[0], moved or {})
            except (sqlite3.Error, OSError) as error:
                name = service or path.parent.name
                raise StoreSetupError(f"{path}: {error}. {next_step(error, rebuild(name))}") from error
            yield cls(path, *opened, connect=connect, max_rows=max_rows, tail_records=tail_records, has_moved=has_moved)

    @classmethod
    @asynccontextmanager
    async def read(cls, path: Path) -> AsyncIterator[Self]:
        """Open the existing store in this file for reading, also while a service writes it; close it after the block.

        Raises StoreError. Call only methods that read. Of them `select_streams` leaves out the facts that older code
        recorded in other streams, so call `select_stream`. Keep the block short: a service that ends while another
        process has its file open cannot remove the write-ahead log (the file `…-wal`).
        """
        async with AsyncExitStack() as stack:
            with translated():
                reader = await stack.enter_async_context(connect_read_only(path))
            place = StoreFiles(path, "")
            yield cls(path, reader, reader, place, Checkpointer(reader, place))

    async def insert_events(self, records: Sequence[Record]) -> None:
        if not records:
            return
        self._place.require()
        with translated():
            try:
                if len(records) > self._max_rows:
                    self._tail.clear()  # it would lack these: until the next append the log is read from the file
                    await self._insert_many(records)
                    await self._still_in_place()
                    return
                values = [value for record in records for value in record]
                last, folder = await self._writer.insert(insert(len(records)), values, self._place.entries)
                if not self._place.glance(folder):  # nobody would find what was recorded in a deleted file
                    await self._still_in_place()
            except BaseException as error:
                self._tail.clear()  # only the file knows whether they were recorded
                self._place.judge(error)
                raise
        # One statement numbers its rows without a gap; the rowid it reports is the last one's.
        self._tail.append(records, last - len(records) + 1)
        self._checkpointer.recorded(len(records))

    async def _still_in_place(self) -> None:
        """Look at the files; raise StoreSetupError if the place then has `trouble`, or others write to them."""
        await self._checkpointer.look()
        self._place.require()

    async def _insert_many(self, records: Sequence[Record]) -> None:
        """Append more records than one statement takes, in one transaction on a connection of its own."""
        async with self._checkpointer.lock, self._connect(self._path) as own:
            await own.execute("PRAGMA wal_autocheckpoint = 0")
            await own.execute("BEGIN IMMEDIATE")
            await own.executemany(insert(1), records)
            await own.commit()
        self._checkpointer.recorded(len(records))

    async def select_streams(
        self, streams: Collection[str], snapshot_topics: Collection[str]
    ) -> dict[str, StreamHistory]:
        self._place.require()  # no decision, and no answer, is made from records that nobody finds again
        with translated():
            rows = await self._writer.execute_fetchall(
                SELECT_STREAMS,
                {"streams": json.dumps(list(streams)), "topics": json.dumps(list(snapshot_topics))},
            )
            earlier = await moved_facts.select(self._writer, streams) if self.has_moved else {}
        found: dict[str, StreamHistory] = {}
        for is_event, *columns in rows:
            record = Record(*columns)
            if is_event:
                found.setdefault(record.originator_id, StreamHistory(None, [])).records.append(record)
            else:
                found[record.originator_id] = StreamHistory(record, [])
        for stream, records in earlier.items():
            found[stream] = found.get(stream, StreamHistory(None, []))._replace(earlier=records)
        return found

    async def select_stream(self, stream: str) -> list[Notification]:
        """Return all records of one stream by version, with their positions in the log. Raises StoreError.

        Before them come the facts of it that older code recorded in other streams, in log order, if `open` has ever
        indexed them (`moved`).
        """
        with translated():
            ((indexed,),) = await self._reader.execute_fetchall(moved_facts.IS_INDEXED)
            earlier = await self._reader.execute_fetchall(moved_facts.SELECT_ONE, (stream,)) if indexed else []
            rows = await self._reader.execute_fetchall(
                "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events"
                " WHERE originator_id = ? ORDER BY originator_version",
                (stream,),
            )
        return [Notification(*row) for row in (*earlier, *rows)]

    async def find_all(self, ids: Collection[tuple[str, int]]) -> list[Notification]:
        """Return the records with these (stream, version) and their positions, in any order, without the missing ones.

        Raises StoreError.
        """
        with translated():
            rows = await self._reader.execute_fetchall(
                "WITH wanted(stream, version) AS"
                " (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
                " SELECT stored_events.rowid, originator_id, originator_version, topic, state"
                " FROM wanted CROSS JOIN stored_events ON originator_id = stream AND originator_version = version",
                (json.dumps(list(ids)),),
            )
        return [Notification(*row) for row in rows]

    async def select_notifications(self, after: int, limit: int, topics: Collection[str] = ()) -> list[Notification]:
        if (newest := self._tail.read(after, limit, topics)) is not None:
            return newest
        sql = "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events WHERE rowid > ?"
        if topics:
            sql += " AND topic IN (SELECT value FROM json_each(?))"
        sql += " ORDER BY rowid LIMIT ?"
        with translated():
            rows = await self._reader.execute_fetchall(
                sql, (after, json.dumps(list(topics)), limit) if topics else (after, limit)
            )
        return [Notification(*row) for row in rows]

    async def max_notification_id(self) -> int:
        # The writer's connection runs this after the appends. The reader's would see a commit before the tail has it.
        # A follower that then read the tail would conclude that nothing more is recorded up to this position.
        with translated():
            ((last,),) = await self._writer.execute_fetchall("SELECT ifnull(max(rowid), 0) FROM stored_events")
            await self._checkpointer.look()
        self._tail.clear_if_behind(last)
        return int(last)

    async def insert_snapshots(self, snapshots: Sequence[Record]) -> None:
        self._place.require()
        with translated():
            await self._writer.executemany("INSERT OR REPLACE INTO snapshots VALUES (?,?,?,?)", snapshots)
            await self._writer.executemany(
                "DELETE FROM snapshots WHERE originator_id = ? AND originator_version < ?",
                [(snapshot.originator_id, snapshot.originator_version) for snapshot in snapshots],
            )
        self._checkpointer.recorded(len(snapshots))

    async def check(self) -> None:
        # A full disk still grants a lock, but no page, so this writes; on the connection that alone writes.
        with translated():
            try:
                async with self._checkpointer.lock:  # a long append would make it wait, and all after it
                    await self._writer.execute("INSERT OR REPLACE INTO checks VALUES (1, unixepoch())")
            except sqlite3.DatabaseError as error:
                self._place.judge(error)
                raise
            await self._still_in_place()
        self._checkpointer.recorded(0)  # a quiet service is asked again and again, and each time the log grows
