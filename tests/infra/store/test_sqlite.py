"""The parts that only the embedded store has: a file, its durability and failures, two writers, a tail in memory."""

import asyncio
import contextlib
import errno
import inspect
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra.store.connection import StoreConnection, connect
from infra.store.errors import Conflict, StoreError, StoreSetupError, next_step
from infra.store.records import StreamHistory
from infra.store.sqlite import SQLiteStore
from tests.infra.records import ALL, at, log_of, record, records, streams_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "point" / "events.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    async with SQLiteStore.open(path) as opened:
        yield opened


# Setting up -----------------------------------------------------------------------------------------------------------


async def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "yet" / "events.sqlite"

    async with SQLiteStore.open(path):
        assert path.exists()


async def test_every_connection_waits_for_the_disk_and_writes_ahead(path: Path) -> None:
    path.parent.mkdir()
    async with connect(path) as connection:
        (mode,), (synchronous,) = (
            *await connection.execute_fetchall("PRAGMA journal_mode"),
            *await connection.execute_fetchall("PRAGMA synchronous"),
        )

    assert (mode, synchronous) == ("wal", 2)  # 2: FULL


async def test_an_insert_looks_once_its_rows_are_committed(path: Path) -> None:
    path.parent.mkdir()

    def found_by_another() -> Any:
        with contextlib.closing(sqlite3.connect(path)) as other:
            return other.execute("SELECT group_concat(a) FROM found").fetchone()

    async with connect(path) as connection:
        await connection.execute("CREATE TABLE found (a)")
        assert await connection.insert("INSERT INTO found VALUES (?), (?)", [7, 8], found_by_another) == (2, ("7,8",))
        assert await connection.insert("INSERT INTO found VALUES (?)", [9], found_by_another) == (3, ("7,8,9",))


async def test_a_store_opens_its_connections_only_that_way(path: Path) -> None:
    wanted: list[tuple[object, ...]] = []

    def watched(*args: Any) -> AbstractAsyncContextManager[StoreConnection]:
        wanted.append(args)
        return connect(*args)

    async with SQLiteStore.open(path, connect=watched, max_rows=2) as store:
        await store.insert_events(records("a", range(1, 4)))

    assert wanted == [(path,)] * 3  # writer, reader, and the very long append: none asks for less than FULL
    assert inspect.signature(SQLiteStore.open).parameters["connect"].default is connect


async def test_a_very_long_append_is_recorded_as_a_whole_or_not_at_all(path: Path) -> None:
    async with SQLiteStore.open(path, max_rows=2) as store:
        await store.insert_events(records("a", range(1, 2)))
        with pytest.raises(Conflict):
            await store.insert_events([*records("b", range(1, 5)), *records("a", range(1, 2))])

        assert [one.originator_id for one in await store.select_notifications(0, 10)] == ["a"]


def test_a_database_that_cannot_write_ahead_is_refused() -> None:
    with pytest.raises(StoreSetupError, match="wanted journal_mode=wal and synchronous=FULL, but got memory and FULL"):
        opening(Path(":memory:"))


def test_the_folder_of_a_store_is_closed_to_others_but_never_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "checkout"
    here.mkdir(mode=0o755)
    monkeypatch.chdir(here)
    for file in ("events.sqlite", "../events.sqlite", "point/events.sqlite"):
        opening(Path(file))

    assert [stat.S_IMODE(path.stat().st_mode) for path in (here, here / "point")] == [0o755, 0o700]


def opening(path: Path) -> None:
    """Open a store and close it again."""

    async def open_and_close() -> None:
        async with SQLiteStore.open(path):
            pass

    asyncio.run(open_and_close())


def test_a_file_that_is_not_a_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("Dear diary, this is certainly no database. " * 100)

    with pytest.raises(StoreSetupError, match=r"events\.sqlite: file is not a database"):
        opening(path)


def failing(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("an error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (failing(sqlite3.SQLITE_CORRUPT), "damaged"),
        (failing(sqlite3.SQLITE_NOTADB), "damaged"),
        (sqlite3.DatabaseError("of Python's own"), "damaged"),
        (failing(sqlite3.SQLITE_BUSY_SNAPSHOT), "Another program holds a lock"),
        (failing(sqlite3.SQLITE_FULL), "make room"),
        (failing(sqlite3.SQLITE_IOERR_READ), "dmesg"),
        (failing(sqlite3.SQLITE_READONLY_DIRECTORY), "This user may not"),
        (OSError(errno.ENOSPC, "No space left on device"), "make room"),
        (PermissionError(errno.EACCES, "Permission denied"), "This user may not"),
    ],
)
def test_each_error_has_its_own_next_step(error: Exception, step: str) -> None:
    assert step in next_step(error, "damaged")


def test_a_damaged_page_that_is_read_at_the_start_has_a_next_step(path: Path) -> None:
    opening(path)
    page = 4_096
    whole = path.read_bytes()
    path.write_bytes(whole[:page] + b"\xff" * (len(whole) - page))

    with pytest.raises(StoreSetupError, match=r"malformed.*just rebuild point; --lose-damaged .*then just audit"):
        opening(path)


async def test_a_store_that_is_locked_at_the_start_is_not_called_damaged(path: Path) -> None:
    async with SQLiteStore.open(path, service="point"):
        pass
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")

        with pytest.raises(StoreSetupError, match=r"locked\. Another program holds a lock") as refused:
            async with SQLiteStore.open(path, service="point"):
                pass

    assert "rebuild" not in str(refused.value)


def test_a_folder_in_the_files_place_is_refused(path: Path) -> None:
    path.mkdir(parents=True)

    with pytest.raises(StoreSetupError, match=r"events\.sqlite: unable to open"):
        opening(path)


def test_a_file_in_the_folders_place_is_refused(path: Path) -> None:
    path.parent.write_text("in the way")

    with pytest.raises(StoreSetupError, match=r"point/events\.sqlite"):
        opening(path)


def test_a_folder_that_nothing_can_be_written_to_is_refused() -> None:
    with pytest.raises(StoreSetupError, match=r"/proc/point/events\.sqlite"):
        opening(Path("/proc/point/events.sqlite"))  # not even root makes folders there


async def test_records_are_there_after_reopening(path: Path) -> None:
    async with SQLiteStore.open(path) as first:
        await first.insert_events(records("a", range(1, 4)))

    async with SQLiteStore.open(path) as second:
        await second.insert_events([record("a", 4)])
        assert await log_of(second) == [at(version, record("a", version)) for version in range(1, 5)]


# Failing --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another connection is in the middle of a write."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_a_locked_file_is_a_store_error_and_records_nothing(path: Path) -> None:
    async with SQLiteStore.open(path, connect=partial(connect, busy_timeout_s=0.05)) as store:
        with locked(path):
            with pytest.raises(StoreError, match="locked"):
                await store.insert_events([record("a", 1)])
            with pytest.raises(StoreError, match="locked"):
                await store.check()
            assert await log_of(store) == []  # reads still work

        await store.insert_events([record("a", 1)])

        assert await streams_of(store) == [("a", 1)]


async def test_a_full_disk_is_a_store_error_and_records_nothing(path: Path) -> None:
    connections: list[StoreConnection] = []

    @contextlib.asynccontextmanager
    async def remembered(path: Path) -> AsyncIterator[StoreConnection]:
        async with connect(path) as connection:
            connections.append(connection)
            yield connection

    async with SQLiteStore.open(path, connect=remembered) as store:
        await store.insert_events([record("a", 1)])
        (writer, _) = connections
        await writer.execute_fetchall("PRAGMA max_page_count = 8")

        with pytest.raises(StoreError, match="full"):
            await store.insert_events(records("b", range(1, 1_000)))
        assert await streams_of(store) == [("a", 1)]

        await writer.execute_fetchall("PRAGMA max_page_count = 100000")
        await store.insert_events(records("b", range(1, 1_000)))
        assert len(await log_of(store)) == 1_000


async def test_a_closed_store_raises_the_ports_errors(path: Path) -> None:
    async with SQLiteStore.open(path) as store:
        pass

    with pytest.raises(StoreError):
        await store.insert_events([record("a", 1)])
    with pytest.raises(StoreError):
        await store.max_notification_id()
    with pytest.raises(StoreError):
        await store.select_streams(["a"], [])
    with pytest.raises(StoreError):
        await store.select_notifications(0, 1)


# Two writers on one file ----------------------------------------------------------------------------------------------


async def test_two_writers_on_one_file_conflict_and_lose_nothing(store: SQLiteStore, path: Path) -> None:
    async with SQLiteStore.open(path) as other:
        await store.insert_events([record("a", 1)])
        with pytest.raises(Conflict):
            await other.insert_events([record("b", 1), record("a", 1)])
        await other.insert_events([record("b", 1), record("a", 2)])
        with pytest.raises(Conflict):
            await store.insert_events([record("a", 2)])

        assert await store.select_streams(["a"], []) == {"a": StreamHistory(None, records("a", range(1, 3)))}
        await store.insert_events([record("a", 3)])

    assert await streams_of(store) == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]


async def test_records_of_another_writer_in_between_are_found_although_the_tail_lacks_them(
    store: SQLiteStore, path: Path
) -> None:
    async with SQLiteStore.open(path) as other:
        await store.insert_events([record("a", 1)])
        await other.insert_events([record("b", 1)])
        await store.insert_events([record("a", 2)])

    assert await streams_of(store) == [("a", 1), ("b", 1), ("a", 2)]
    assert [stored.position for stored in await store.select_notifications(1, ALL)] == [2, 3]


async def test_two_writers_at_once_take_turns(path: Path) -> None:
    async with SQLiteStore.open(path) as one, SQLiteStore.open(path) as two:
        await asyncio.gather(
            *(one.insert_events([record("a", version), record("b", version)]) for version in range(1, 51)),
            *(two.insert_events([record("c", version), record("d", version)]) for version in range(1, 51)),
        )

    async with SQLiteStore.open(path) as store:
        log = await streams_of(store)
    for one_stream in "abcd":
        assert [version for stream, version in log if stream == one_stream] == list(range(1, 51))


# The tail in memory ---------------------------------------------------------------------------------------------------


async def test_the_log_reads_the_same_from_memory_and_from_the_file(path: Path) -> None:
    async with SQLiteStore.open(path) as before:
        await before.insert_events([record("a", 1, "x"), record("b", 1, "y")])

    # The tail of 5 records is cut several times below.
    async with SQLiteStore.open(path, tail_records=5) as writing, SQLiteStore.open(path) as reading:
        for version in range(2, 25):
            await writing.insert_events([record("a", version, "x"), record("b", version, "y")])
            for after in range(2 * version + 1):
                assert await writing.select_notifications(after, ALL) == await reading.select_notifications(after, ALL)
                assert await writing.select_notifications(after, 3, ["y"]) == await reading.select_notifications(
                    after, 3, ["y"]
                )


async def test_records_older_than_the_tail_are_read_from_the_file(store: SQLiteStore, path: Path) -> None:
    async with SQLiteStore.open(path) as earlier:
        await earlier.insert_events(records("a", range(1, 11)))

    await store.insert_events([record("a", 11)])

    assert [stored.position for stored in await store.select_notifications(0, ALL)] == list(range(1, 12))
    assert [stored.position for stored in await store.select_notifications(10, ALL)] == [11]


async def test_records_of_another_process_are_read_once_the_last_position_was_read(
    path: Path, store: SQLiteStore
) -> None:
    await store.insert_events([record("a", 1)])
    async with SQLiteStore.open(path) as another:
        await another.insert_events([record("a", 2)])

    assert await store.max_notification_id() == 2
    assert [stored.position for stored in await store.select_notifications(1, ALL)] == [2]
