"""Facts that older code recorded in another stream are found by the stream that they belong to today."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts import Fact, PointCharged, PointDeposited, PointUsed, PointUseVoided
from contracts.wire import NAMES, encode
from infra.core.decider import moved_facts
from infra.core.errors import StreamUnreadable
from infra.core.state_cache import StateCache
from infra.store import moved
from infra.store.records import Record
from infra.store.sqlite import SQLiteStore
from ops.at import history
from ops.errors import Found, RecordedByNewerCode
from point_svc.__main__ import SERVICE
from tests.examples import CUSTOMER, ORDER, ORDER_ID, OTHER_ID, charged, deposited, points_used, use_of_points_voided

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MOVED = moved_facts(SERVICE.aggregates)
USE = f"pointuse-{ORDER_ID}"
CHARGE = charged(5).stream


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "point" / "events.sqlite"


def earlier(version: int, fact: Fact) -> Record:
    """The record of older code."""
    return Record(fact.earlier_stream, version, NAMES[type(fact)], encode(fact))


def today(version: int, fact: Fact) -> Record:
    return Record(fact.stream, version, NAMES[type(fact)], encode(fact))


@asynccontextmanager
async def older(path: Path) -> AsyncIterator[SQLiteStore]:
    """The store, as older code opens it."""
    async with SQLiteStore.open(path) as store:
        yield store


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SQLiteStore]:
    async with SQLiteStore.open(path, moved=MOVED) as store:
        yield store


async def earlier_of(store: SQLiteStore, stream: str) -> Sequence[Record]:
    found = await store.select_streams([stream], ())
    return found[stream].earlier if stream in found else ()


async def test_a_store_without_such_facts_has_none_and_is_not_asked(path: Path) -> None:
    async with opened(path) as store:
        await store.insert_events([today(1, deposited(5)), today(1, charged(5)), today(1, points_used())])
        assert not store.has_moved
        assert await earlier_of(store, USE) == ()
    async with opened(path) as store:
        assert not store.has_moved


async def test_each_is_found_by_the_stream_it_belongs_to(path: Path) -> None:
    log = [earlier(1, charged(5)), earlier(2, points_used()), earlier(3, use_of_points_voided(order_id=OTHER_ID))]
    async with older(path) as store:
        await store.insert_events(log)
    async with opened(path) as store:
        assert store.has_moved
        assert await earlier_of(store, CHARGE) == log[:1]
        assert await earlier_of(store, USE) == log[1:2]
        assert await earlier_of(store, f"pointuse-{OTHER_ID}") == log[2:]
        assert await earlier_of(store, f"account-{CUSTOMER}") == ()
        assert (await store.select_streams([f"account-{CUSTOMER}"], ()))[f"account-{CUSTOMER}"].records == log


async def test_a_stream_has_them_before_its_own_records(path: Path) -> None:
    async with older(path) as store:
        await store.insert_events([earlier(1, points_used())])
    async with opened(path) as store:
        own = today(1, use_of_points_voided())
        await store.insert_events([own])
        (history,) = (await store.select_streams([USE], ())).values()
        assert (history.earlier, history.records) == ([earlier(1, points_used())], [own])
        assert [record[0] for record in await store.select_stream(USE)] == [1, 2]


@pytest.mark.parametrize("body", [b"{", b'{"type":"point.stolen","at":"2026-03-01T09:30:00Z"}'])
async def test_one_that_cannot_be_read_is_named_by_where_it_is_recorded(path: Path, body: bytes) -> None:
    async with older(path) as store:
        await store.insert_events([earlier(1, charged(5)), earlier(2, points_used())])
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE stored_events SET state = ? WHERE originator_version = 2", (body,))

    async with opened(path) as store:
        with pytest.raises(StreamUnreadable, match=f"{USE}: a record cannot be read: account-{CUSTOMER}@2: "):
            await StateCache(SERVICE.aggregates, store).get([USE])
    with pytest.raises(
        (Found, RecordedByNewerCode), match=rf"account-{CUSTOMER}@2 \(point\.used\) at position 2 cannot"
    ):
        await history({"DATA_DIR": str(path.parents[1])}, "pointuse", ORDER_ID)


async def test_a_snapshot_that_cannot_be_read_is_named_as_one(path: Path) -> None:
    async with opened(path) as store:
        await store.insert_events([today(1, deposited(1))])
        cache = StateCache(SERVICE.aggregates, store)
        stream = deposited(1).stream
        folded = await cache.get([stream])
        await store.insert_snapshots([cache._snapshot(stream, folded[stream])._replace(state=b"{")])

        with pytest.raises(StreamUnreadable, match=f"a record cannot be read: the snapshot of {stream}@1: "):
            await StateCache(SERVICE.aggregates, store).get([stream])


async def test_what_older_code_recorded_after_a_rollback_is_found_too(path: Path) -> None:
    async with opened(path) as store:
        assert not store.has_moved
        await store.insert_events([today(1, deposited(1)), today(1, charged(1))])
    async with older(path) as store:
        await store.insert_events([earlier(2, points_used())])
    async with opened(path) as store:
        assert store.has_moved
        assert await earlier_of(store, USE) == [earlier(2, points_used())]


async def test_a_later_start_looks_at_none_that_it_knows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with older(path) as store:
        await store.insert_events([earlier(1, charged(5)), earlier(2, points_used())])
    async with opened(path):
        pass
    looked: list[bytes] = []
    monkeypatch.setattr(moved, "decode", looked.append)
    async with opened(path) as store:
        assert store.has_moved
    assert looked == []


async def test_a_log_that_was_cut_gives_its_positions_again(path: Path) -> None:
    """As a restored backup is."""
    async with older(path) as store:
        await store.insert_events([earlier(1, charged(5)), earlier(2, points_used())])
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DELETE FROM stored_events WHERE rowid > 1")
    async with opened(path) as store:
        await store.insert_events([today(2, deposited(7))])
        assert await earlier_of(store, USE) == ()
        assert await earlier_of(store, CHARGE) == [earlier(1, charged(5))]
    async with older(path) as store:
        await store.insert_events([earlier(3, points_used())])
    async with opened(path) as store:
        assert await earlier_of(store, USE) == [earlier(3, points_used())]


async def test_many_are_indexed_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved, "CHUNK", 3)
    facts = [points_used(order_id=f"o{number}") for number in range(10)]
    async with older(path) as store:
        await store.insert_events([earlier(number, fact) for number, fact in enumerate(facts, 1)])
    async with opened(path) as store:
        assert [len(await earlier_of(store, fact.stream)) for fact in facts] == [1] * 10


async def test_a_damaged_record_keeps_no_other_from_being_found(path: Path) -> None:
    async with older(path) as store:
        bodies = [b"not JSON", b"\xff", b'{"type":"point.used"}', b""]
        await store.insert_events([Record("account-eve", n, "point.used", body) for n, body in enumerate(bodies, 1)])
        await store.insert_events([earlier(1, points_used())])
    async with opened(path) as store:
        assert await earlier_of(store, USE) == [earlier(1, points_used())]


async def test_the_database_stays_one_that_any_code_and_any_tool_can_use(path: Path) -> None:
    async with older(path) as store:
        await store.insert_events([earlier(1, points_used())])
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as other, other:  # without functions of our own
        other.execute("INSERT INTO stored_events VALUES ('account-zoe', 1, 'point.used', '{}')")
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_nothing_is_assumed_new_where_there_may_be_an_answer_of_before(path: Path) -> None:
    async with older(path) as store:
        await store.insert_events([earlier(1, points_used())])
    async with opened(path) as store:
        cache = StateCache(SERVICE.aggregates, store)
        assert cache.assume_new([USE, CHARGE]) == {}
        found = (await cache.get([USE]))[USE]
        assert (found.version, found.state.answer, found.state.points) == (0, "used", ORDER.points)


async def test_where_there_is_none_a_stream_is_assumed_new_as_ever(path: Path) -> None:
    async with opened(path) as store:
        assert set(StateCache(SERVICE.aggregates, store).assume_new([USE, CHARGE])) == {USE, CHARGE}


def test_a_service_names_what_has_moved() -> None:
    names = {NAMES[fact] for fact in (PointCharged, PointUsed, PointUseVoided)}

    assert names <= {name for topics in MOVED.values() for name in topics}
    assert NAMES[PointDeposited] not in {name for topics in MOVED.values() for name in topics}
