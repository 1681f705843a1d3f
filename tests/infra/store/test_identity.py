"""A store is opened only if it is its service's own and whole, and records only while its files are in place."""

import asyncio
import contextlib
import itertools
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from infra.store import opening
from infra.store.checkpointer import PAGES, Checkpointer, is_affected
from infra.store.connection import connect
from infra.store.errors import StoreError, StoreSetupError
from infra.store.identity import Identity, assign, companions, outside
from infra.store.records import Record
from infra.store.sqlite import SQLiteStore
from tests.infra.records import records, streams_of
from tests.ops import damage
from tests.shop import PATIENCE_S, attempts

FILE = "events.sqlite"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "point" / FILE


def moving(store: SQLiteStore) -> Checkpointer:
    return store._checkpointer


def charged(first: int, last: int) -> list[Record]:
    return [record._replace(topic="point.charged", state=b"x" * 2_000) for record in records("a", range(first, last))]


def small(version: int) -> list[Record]:
    """One of several records in a page."""
    return [
        record._replace(topic="point.charged", state=b"x" * 500) for record in records("a", range(version, version + 1))
    ]


def image(path: Path, folder: Path) -> Path:
    """What a process that is killed now leaves of its store; with the id that is known outside."""
    (folder / path.parent.name).mkdir(parents=True)
    for file in (path, *companions(path)[:1]):
        if file.exists():
            shutil.copy(file, folder / path.parent.name / file.name)
    known = outside(path, path.parent.name)
    if known.exists():
        shutil.copy(known, folder / known.name)
    return folder / path.parent.name / path.name


async def opened(path: Path, service: str = "point") -> list[tuple[str, int]]:
    async with SQLiteStore.open(path, service=service) as store:
        return await streams_of(store)


def contents(path: Path) -> list[bytes]:
    """Of the file and its write-ahead log; a missing one is empty."""
    return [file.read_bytes() if file.exists() else b"" for file in (path, companions(path)[0])]


def deleted(path: Path, _: Path) -> None:
    path.unlink()


async def refused(path: Path, why: str, service: str = "point") -> None:
    before = contents(path)
    with pytest.raises(StoreSetupError, match=why):
        await opened(path, service)
    assert contents(path) == before, "a store that is refused is not changed"


def open_to_all(path: Path) -> None:
    """A store as older versions made it."""
    path.parent.mkdir(mode=0o755)
    path.touch(0o644)
    path.chmod(0o644)


def spoil_newest(path: Path) -> None:
    """Overwrite the pages that have the newest records."""
    content = bytearray(path.read_bytes())
    at = content.rindex(b"x" * 1_500)
    first, last = at - 2_048 & ~4_095, (at & ~4_095) + 4_096
    content[first:last] = b"\0" * (last - first)
    path.write_bytes(content)


# Whose it is ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00" * 33, b"{}\n"])
async def test_a_damaged_identity_is_named_and_made_again_once_it_is_removed(path: Path, content: bytes) -> None:
    await opened(path)
    known = outside(path, "point")
    before = known.read_bytes()
    known.write_bytes(content)

    await refused(path, r"point\.identity is damaged.*If .* is the right store, remove .*point\.identity")
    with contextlib.closing(sqlite3.connect(":memory:")) as new, pytest.raises(StoreSetupError, match="is damaged"):
        assign(new, path, "point")

    known.unlink()
    await opened(path)
    assert known.read_bytes() == before


async def test_the_store_of_another_service_is_refused(path: Path, tmp_path: Path) -> None:
    await opened(path)
    (tmp_path / "coupon").mkdir()
    shutil.copy(path, tmp_path / "coupon" / FILE)

    await refused(tmp_path / "coupon" / FILE, "is the store of point_svc.*just rebuild coupon", "coupon")


async def test_the_store_of_another_service_is_refused_although_an_older_version_made_it(path: Path) -> None:
    async with SQLiteStore.open(path) as store:
        await store.insert_events(charged(1, 3))
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("DROP TABLE identity")

    await refused(path, "is the log of point_svc", "coupon")
    assert await opened(path, "point") == [("a", 1), ("a", 2)]


async def test_another_store_of_the_same_service_is_refused(path: Path, tmp_path: Path) -> None:
    await opened(path)
    await opened(tmp_path / "elsewhere" / "point" / FILE)
    shutil.copy(tmp_path / "elsewhere" / "point" / FILE, path)

    await refused(path, r"is store \w+, but point_svc has recorded in store.*remove .*point\.identity")

    outside(path, "point").unlink()
    assert await opened(path) == []


async def test_a_store_that_is_missing_is_not_made_anew(path: Path) -> None:
    await opened(path)
    deleted(path, path)

    await refused(path, "is missing, but point_svc has recorded in it.*just rebuild point")
    assert contents(path)[0] == b""


async def test_a_store_of_an_older_version_is_taken_and_known_from_then_on(path: Path) -> None:
    async with SQLiteStore.open(path) as store:
        await store.insert_events(charged(1, 3))
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("DROP TABLE identity")

    assert await opened(path) == [("a", 1), ("a", 2)]
    deleted(path, path)
    await refused(path, "is missing")


async def test_nobody_else_may_read_what_a_store_has(path: Path) -> None:
    open_to_all(path)

    async with SQLiteStore.open(path, service="point") as store:
        await store.insert_events(charged(1, 3))
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()}

    assert modes == {FILE: "0o600", f"{FILE}-wal": "0o600", f"{FILE}-shm": "0o600"}
    assert oct(path.parent.stat().st_mode & 0o777) == "0o700"


# The write-ahead log is the file's own --------------------------------------------------------------------------------


async def test_what_a_killed_process_left_opens_and_has_all_records(path: Path, tmp_path: Path) -> None:
    async with SQLiteStore.open(path, service="point") as store:
        for version in range(1, 40):
            await store.insert_events(charged(version, version + 1))
            if version % 13 == 0:
                await moving(store).move()
        left = image(path, tmp_path / "killed")

    assert await opened(left) == [("a", version) for version in range(1, 40)]


async def test_killed_at_any_step_of_moving_the_log_it_opens_and_has_all_records(path: Path, tmp_path: Path) -> None:
    left: list[tuple[Path, int]] = []

    class Watched:
        """The connection; after each statement it keeps what a process that is killed then leaves."""

        def __init__(self, writer: Any) -> None:
            self._writer = writer

        async def execute(self, *arguments: Any) -> Any:
            return self._kept(await self._writer.execute(*arguments))

        async def execute_fetchall(self, *arguments: Any) -> Any:
            return self._kept(await self._writer.execute_fetchall(*arguments))

        def _kept(self, result: Any) -> Any:
            left.append((image(path, tmp_path / f"killed{len(left)}"), version))
            return result

    async with SQLiteStore.open(path, service="point") as store:
        moving(store)._writer = Watched(moving(store)._writer)  # type: ignore[assignment]
        for version in range(1, 7):
            await store.insert_events(charged(version, version + 1))
            if version % 2 == 0:
                await moving(store).move()

    assert len(left) == 24
    for killed, last in left:
        assert await opened(killed) == [("a", version) for version in range(1, last + 1)]


async def test_a_reader_in_the_way_puts_off_the_end_of_the_log_and_nothing_else(path: Path, tmp_path: Path) -> None:
    async with SQLiteStore.open(path, service="point") as store:
        await store.insert_events(charged(1, 3))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM stored_events").fetchone()
            for version in range(3, 6):
                await store.insert_events(charged(version, version + 1))
                await moving(store).move()
            left = image(path, tmp_path / "killed")
            other.execute("COMMIT")
        await moving(store).move()
        await store.insert_events(charged(6, 7))
        later = image(path, tmp_path / "later")

    assert await opened(left) == [("a", version) for version in range(1, 6)]
    assert await opened(later) == [("a", version) for version in range(1, 7)]


@pytest.mark.parametrize("seen", range(1, 21))
async def test_a_log_that_is_moved_in_part_belongs_to_its_file(path: Path, tmp_path: Path, seen: int) -> None:
    """While somebody reads, only pages that nobody has written since are moved: the file alone is no whole database."""
    async with SQLiteStore.open(path, service="point") as store:
        for version in range(1, seen + 1):
            await store.insert_events(small(version))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM stored_events").fetchone()
            await store.insert_events(small(seen + 1))
            await moving(store).move()
            left = image(path, tmp_path / "killed")
            os.utime(path)  # as if somebody had written to it
            await store.check()
            other.execute("COMMIT")

    assert await opened(left) == [("a", version) for version in range(1, seen + 2)]


@pytest.fixture
async def copies(path: Path, tmp_path: Path) -> list[Path]:
    """What a process leaves at three times, with the log moved into the file between them."""
    made = []
    async with SQLiteStore.open(path, service="point") as store:
        for number in range(3):
            await store.insert_events(charged(number * 10 + 1, number * 10 + 11))
            made.append(image(path, tmp_path / f"copy{number}"))
            await moving(store).move()
    return made


@pytest.mark.parametrize(("file_of", "log_of"), [(0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)])
async def test_a_file_put_back_beside_a_left_over_log_is_refused(copies: list[Path], file_of: int, log_of: int) -> None:
    left = copies[log_of]
    shutil.copy(copies[file_of], left)

    await refused(
        left, r"events\.sqlite-wal is not the write-ahead log of events\.sqlite.*Move events\.sqlite-wal away"
    )

    companions(left)[0].unlink()
    assert await opened(left) == [("a", version) for version in range(1, file_of * 10 + 1)]


async def test_a_log_without_its_file_is_refused(copies: list[Path]) -> None:
    copies[1].unlink()
    outside(copies[1], "point").unlink()

    await refused(copies[1], "is missing, but its write-ahead log")


# Whole ----------------------------------------------------------------------------------------------------------------


async def test_a_file_whose_newest_records_cannot_be_read_is_refused(path: Path) -> None:
    async with SQLiteStore.open(path, service="point") as store:
        await store.insert_events(charged(1, 100))
    spoil_newest(path)

    await refused(path, r"malformed|damaged")


async def test_after_an_unclean_stop_damage_anywhere_stops_recording(path: Path, tmp_path: Path) -> None:
    async with SQLiteStore.open(path, service="point") as store:
        await store.insert_events(charged(1, 2_000))
        await moving(store).move()
        left = image(path, tmp_path / "killed")
    content = bytearray(left.read_bytes())
    at = len(content) // 3 & ~4_095
    content[at : at + 4_096] = b"\xff" * 4_096
    left.write_bytes(content)

    async with SQLiteStore.open(left, service="point") as store:
        async for _ in attempts("the damage to be found"):
            if store._place.trouble is not None:
                break
        with pytest.raises(StoreError, match=r"is damaged: .*just rebuild point"):
            await store.insert_events(charged(2_000, 2_001))
        with pytest.raises(StoreError, match="is damaged"):
            await store.check()


async def test_a_file_that_cannot_be_read_for_a_moment_is_not_told_to_be_damaged(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLiteStore.open(path, service="point") as store:
        await store.insert_events(charged(1, 2))
        left = image(path, tmp_path / "killed")
    checked = asyncio.Event()
    results: list[list[str] | sqlite3.Error] = [sqlite3.OperationalError("unable to open database file"), []]

    async def damage_of(_: Path) -> list[str]:
        result = results.pop(0)
        if isinstance(result, sqlite3.Error):
            raise result
        checked.set()
        return result

    monkeypatch.setattr(opening, "damage", damage_of)
    async with SQLiteStore.open(left, service="point") as store:
        async with asyncio.timeout(PATIENCE_S):
            await checked.wait()
        await store.insert_events(charged(2, 3))

    assert not results


async def test_the_whole_file_is_checked_with_every_index(path: Path) -> None:
    async with SQLiteStore.open(path, service="point") as store:
        await store.insert_events(charged(1, 100))
    assert await opening.damage(path, "integrity_check") == []

    damage.empty_index(path)

    assert await opening.damage(path, "integrity_check") != []
    await refused(path, "is damaged: of its newest 99 positions 99 are readable, and 0 are found by their index")


# In place while it is open --------------------------------------------------------------------------------------------


def moved_away(path: Path, _: Path) -> None:
    path.parent.rename(path.parent.with_name("away"))


def replaced(path: Path, copy: Path) -> None:
    path.unlink()
    shutil.copy(copy, path)


def replaced_by_an_equal_one(path: Path, _: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def overwritten(path: Path, copy: Path) -> None:
    shutil.copy(copy, path)


def without_its_log(path: Path, _: Path) -> None:
    companions(path)[0].unlink()


@pytest.mark.parametrize(
    "happens", [deleted, moved_away, replaced, replaced_by_an_equal_one, overwritten, without_its_log]
)
async def test_nothing_is_recorded_into_files_that_nobody_finds(
    path: Path, tmp_path: Path, happens: Callable[[Path, Path], None]
) -> None:
    async with SQLiteStore.open(path, service="point") as store:
        await store.insert_events(charged(1, 3))
        await moving(store).move()
        copy = image(path, tmp_path / "backup")
        await store.insert_events(charged(3, 5))
        await moving(store).move()
        happens(path, copy)
        if happens is overwritten:
            await store.max_notification_id()  # every second

        with pytest.raises(StoreError, match="just rebuild point"):
            await store.insert_events(charged(5, 6))
        for refuses in (store.check(), store.insert_events(charged(5, 6)), store.select_streams(["a"], [])):
            with pytest.raises(StoreError, match="nothing is recorded any more"):
                await refuses
        if happens is not overwritten:
            assert len(await store.select_notifications(0, 4)) == 4  # what was recorded can still be published


async def test_a_quiet_service_notices_too(path: Path) -> None:
    async with SQLiteStore.open(path, service="point") as store:
        deleted(path, path)
        await store.max_notification_id()  # every second
        assert store._place.trouble is not None


async def test_a_file_that_is_deleted_while_it_is_compared_is_refused_as_one_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLiteStore.open(path, service="point") as store:
        own = await moving(store).identity()

        async def deletes() -> Identity:
            deleted(path, path)
            return own._replace(store="another")

        monkeypatch.setattr(moving(store), "identity", deletes)
        os.utime(path)  # as if somebody had written to it
        await store.max_notification_id()

        with pytest.raises(StoreError, match=r"events\.sqlite was deleted or moved away.*just rebuild point"):
            await store.check()


async def test_a_connection_that_cannot_read_the_identity_now_does_not_make_the_file_a_foreign_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLiteStore.open(path, service="point") as store:
        with monkeypatch.context() as patched:

            async def fails() -> Identity:
                raise sqlite3.OperationalError("disk I/O error")

            patched.setattr(moving(store), "identity", fails)
            os.utime(path)  # as if somebody had written to it
            with pytest.raises(StoreError, match="disk I/O error"):
                await store.check()

        await store.check()
        await store.insert_events(charged(1, 2))


async def test_a_second_process_that_moves_the_log_is_no_trouble(path: Path) -> None:
    async with SQLiteStore.open(path) as one, SQLiteStore.open(path) as two:
        for version in range(1, 9):
            await one.insert_events(charged(version, version + 1))
            await moving(two).move()
            await two.insert_events(records("b", range(version, version + 1)))
            await moving(one).move()


async def test_appends_beside_a_move_of_the_log_are_no_trouble(path: Path) -> None:
    async with SQLiteStore.open(path) as store:
        number = itertools.count()
        for _ in range(10):
            moves = asyncio.create_task(moving(store).move())
            while not moves.done():
                await store.insert_events(records(f"a{next(number)}", range(1, 40)))
            await moves
        assert store._place.trouble is None


async def short_append(store: SQLiteStore, version: int) -> None:
    await store.insert_events(records("a", range(version, version + 1)))


async def long_append(store: SQLiteStore, version: int) -> None:
    await store.insert_events(records(f"a{version}", range(1, 4)))


async def snapshot(store: SQLiteStore, version: int) -> None:
    await store.insert_snapshots(records("a", range(version, version + 1)))


async def probe(store: SQLiteStore, _: int) -> None:
    await store.check()


@pytest.mark.parametrize("writes", [short_append, long_append, snapshot, probe])
async def test_the_log_is_moved_in_the_end_whatever_writes_to_it(
    path: Path, writes: Callable[[SQLiteStore, int], Awaitable[None]]
) -> None:
    async with SQLiteStore.open(path, max_rows=2) as store:
        before = (await moving(store).identity()).wal
        for version in range(1, PAGES // 4 + 1):
            await writes(store, version)
        await moving(store).finished()

        assert (await moving(store).identity()).wal != before


# One connection writes ------------------------------------------------------------------------------------------------


async def test_no_connection_moves_the_log_by_itself(path: Path) -> None:
    seen: list[int] = []

    @contextlib.asynccontextmanager
    async def watched(path: Path) -> AsyncIterator[Any]:
        async with connect(path) as connection:
            yield connection
            ((pages,),) = await connection.execute_fetchall("PRAGMA wal_autocheckpoint")
            seen.append(pages)

    async with SQLiteStore.open(path, connect=watched, max_rows=2) as store:
        await store.insert_events(records("a", range(1, 5)))
        await asyncio.gather(*(store.check() for _ in range(3)))
        assert seen == [0]  # of the long append
    assert sorted(seen) == [0, 0, 1_000]  # the reader writes nothing


async def test_a_long_append_waits_until_the_log_is_moved(path: Path) -> None:
    wanted: list[Path] = []
    appends: list[asyncio.Task[None]] = []

    def watched(path: Path) -> AbstractAsyncContextManager[Any]:
        wanted.append(path)
        return connect(path)

    class Watched:
        """The connection; in the middle of the move, the append begins on another one if it may."""

        def __init__(self, writer: Any) -> None:
            self._writer = writer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._writer, name)

        async def execute(self, *arguments: Any) -> Any:
            if not appends:
                appends.append(asyncio.create_task(store.insert_events(records("a", range(1, 5)))))
                await asyncio.sleep(0)
                assert len(wanted) == 2, "the writer's and the reader's"
            return await self._writer.execute(*arguments)

    async with SQLiteStore.open(path, connect=watched, max_rows=2) as store:
        moving(store)._writer = Watched(moving(store)._writer)  # type: ignore[assignment]
        await moving(store).move()
        await asyncio.gather(*appends)

        assert len(wanted) == 3
        assert await streams_of(store) == [("a", version) for version in range(1, 5)]


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((4, 0, 0), False),
    ],
)
def test_versions_that_can_damage_a_file_are_known(version: tuple[int, int, int], affected: bool) -> None:
    assert is_affected(version) is affected
