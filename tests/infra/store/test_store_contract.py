"""The contract of every event store, tested on our SQLite store and on the library's recorders behind the port."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eventsourcing.popo import POPOAggregateRecorder, POPOApplicationRecorder

from infra.store.errors import Conflict
from infra.store.event_store import EventStore
from infra.store.records import Record, StreamHistory
from infra.store.sqlite import MAX_ROWS_PER_INSERT, SQLiteStore
from tests.infra.records import ALL, at, log_of, names, record, records, streams_of
from tests.infra.store.recorder_store import RecorderStore


@pytest.fixture(params=["sqlite", "recorder"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventStore]:
    if request.param == "sqlite":
        async with SQLiteStore.open(tmp_path / "events.sqlite") as sqlite:
            yield sqlite
    else:
        recorder = RecorderStore(POPOApplicationRecorder(), POPOAggregateRecorder())
        yield recorder
        recorder.close()


# Appending ------------------------------------------------------------------------------------------------------------


async def test_a_new_log_is_empty(store: EventStore) -> None:
    assert await store.max_notification_id() == 0
    assert await log_of(store) == []
    assert await store.select_streams(["a"], ["snapshot"]) == {}


async def test_the_log_has_the_records_in_the_order_they_were_given(store: EventStore) -> None:
    first, second = [record("b", 1), record("a", 1)], [record("a", 2), record("c", 1), record("b", 2)]

    await store.insert_events(first)
    await store.insert_events(second)

    assert await log_of(store) == [at(position, stored) for position, stored in enumerate(first + second, 1)]
    assert await store.max_notification_id() == 5


async def test_appending_nothing_changes_nothing(store: EventStore) -> None:
    await store.insert_events([])

    assert await store.max_notification_id() == 0


async def test_a_version_that_was_recorded_before_is_a_conflict(store: EventStore) -> None:
    await store.insert_events([record("a", 1)])

    with pytest.raises(Conflict):
        await store.insert_events([record("a", 1, "something else")])

    assert names(await log_of(store)) == [(1, "happened")]


async def test_a_conflict_anywhere_in_a_batch_records_nothing_of_it(store: EventStore) -> None:
    await store.insert_events([record("a", 1)])

    with pytest.raises(Conflict):
        await store.insert_events([record("b", 1), record("c", 1), record("a", 1)])

    assert await streams_of(store) == [("a", 1)]
    assert await store.select_streams(["b", "c"], []) == {}


async def test_a_batch_that_conflicts_with_itself_records_nothing(store: EventStore) -> None:
    with pytest.raises(Conflict):
        await store.insert_events([record("a", 1), record("a", 1)])

    assert await store.max_notification_id() == 0


async def test_the_log_continues_after_a_conflict(store: EventStore) -> None:
    await store.insert_events([record("a", 1)])
    with pytest.raises(Conflict):
        await store.insert_events([record("b", 1), record("a", 1)])

    await store.insert_events([record("b", 1)])

    found = await log_of(store)
    assert [stored.originator_id for stored in found] == ["a", "b"]
    assert found[0].position < found[1].position == await store.max_notification_id()


async def test_of_appends_of_one_version_at_once_exactly_one_is_recorded(store: EventStore) -> None:
    batches = [[record("a", 1, f"writer {n}"), record(f"b{n}", 1)] for n in range(10)]

    outcomes = await asyncio.gather(*(store.insert_events(batch) for batch in batches), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes].count(Conflict) == 9
    assert await streams_of(store) == [("a", 1), (f"b{outcomes.index(None)}", 1)]


async def test_an_append_that_is_cut_short_is_recorded_whole_or_not_at_all(store: EventStore) -> None:
    appending = asyncio.create_task(store.insert_events(records("a", range(1, 51))))
    await asyncio.sleep(0)  # let it begin
    appending.cancel()
    await asyncio.gather(appending, return_exceptions=True)

    await store.insert_events([record("b", 1)])

    assert (await streams_of(store))[:-1] in ([], [("a", version) for version in range(1, 51)])
    assert (await streams_of(store))[-1] == ("b", 1)


async def test_a_batch_may_be_longer_than_one_statement_can_be(store: EventStore) -> None:
    rows = MAX_ROWS_PER_INSERT + 1
    await store.insert_events([record("before", 1)])

    await store.insert_events(records("a", range(1, rows + 1)))

    assert await store.max_notification_id() == rows + 1
    assert [stored.originator_version for stored in await store.select_notifications(1, ALL)] == [*range(1, rows + 1)]
    await store.insert_events([record("after", 1)])
    assert [stored.originator_id for stored in await store.select_notifications(rows, ALL)] == ["a", "after"]


async def test_a_very_long_batch_with_a_conflict_records_nothing(store: EventStore) -> None:
    await store.insert_events([record("a", 1)])

    with pytest.raises(Conflict):
        await store.insert_events([*records("b", range(1, MAX_ROWS_PER_INSERT + 2)), record("a", 1)])

    assert await streams_of(store) == [("a", 1)]


async def test_checking_the_store_records_nothing(store: EventStore) -> None:
    await store.check()
    await store.insert_events([record("a", 1)])
    await store.check()

    assert await streams_of(store) == [("a", 1)]


async def test_checking_the_store_does_not_disturb_appends(store: EventStore) -> None:
    await asyncio.gather(
        *(store.insert_events(records("a", range(n, n + 5))) for n in range(1, 200, 5)),
        *(store.check() for _ in range(20)),
    )

    assert len(await log_of(store)) == 200


# Reading streams ------------------------------------------------------------------------------------------------------


async def test_a_streams_history_is_its_records_in_the_order_of_their_versions(store: EventStore) -> None:
    await store.insert_events([record("a", 1), record("b", 1), record("a", 2)])
    await store.insert_events([record("b", 2), record("a", 3), record("c", 1)])

    assert await store.select_streams(["b", "a", "unused"], []) == {
        "a": StreamHistory(None, records("a", range(1, 4))),
        "b": StreamHistory(None, records("b", range(1, 3))),
    }


async def test_a_history_begins_at_the_newest_snapshot_with_a_wanted_topic(store: EventStore) -> None:
    await store.insert_events([*records("a", range(1, 6)), *records("b", range(1, 3))])
    await store.insert_snapshots([record("a", 2, "snapshot.1")])
    await store.insert_snapshots([record("a", 4, "snapshot.1")])

    assert await store.select_streams(["a", "b"], ["snapshot.1", "other.1"]) == {
        "a": StreamHistory(record("a", 4, "snapshot.1"), [record("a", 5)]),
        "b": StreamHistory(None, records("b", range(1, 3))),
    }


async def test_a_snapshot_may_be_all_there_is_to_a_history(store: EventStore) -> None:
    await store.insert_events(records("a", range(1, 4)))
    await store.insert_snapshots([record("a", 3, "snapshot.1")])

    assert await store.select_streams(["a"], ["snapshot.1"]) == {"a": StreamHistory(record("a", 3, "snapshot.1"), [])}


async def test_snapshots_of_other_topics_are_ignored(store: EventStore) -> None:
    await store.insert_events(records("a", range(1, 4)))
    await store.insert_snapshots([record("a", 2, "snapshot.old")])

    assert await store.select_streams(["a"], ["snapshot.new"]) == {"a": StreamHistory(None, records("a", range(1, 4)))}
    assert await store.select_streams(["a"], []) == {"a": StreamHistory(None, records("a", range(1, 4)))}


async def test_snapshots_are_no_part_of_the_log(store: EventStore) -> None:
    await store.insert_events([record("a", 1)])
    await store.insert_snapshots([record("a", 1, "snapshot.1")])

    assert names(await log_of(store)) == [(1, "happened")]


@pytest.mark.parametrize("stream", ['say-"hi"', "back\\slash", "it's", "주문-1", "a,b", "[1]"])
async def test_a_stream_may_have_any_name(store: EventStore, stream: str) -> None:
    stored = Record(stream, 1, "happened", b"{}")

    await store.insert_events([stored])

    assert await store.select_streams([stream], []) == {stream: StreamHistory(None, [stored])}


async def test_a_body_comes_back_byte_for_byte(store: EventStore) -> None:
    body = bytes(range(256))

    await store.insert_events([Record("a", 1, "happened", body)])

    assert (await log_of(store))[0].state == body
    assert (await store.select_streams(["a"], []))["a"].records[0].state == body


# Reading the log ------------------------------------------------------------------------------------------------------


async def test_the_log_is_read_from_a_position_in_portions(store: EventStore) -> None:
    await store.insert_events(records("a", range(1, 8)))

    assert [stored.position for stored in await store.select_notifications(0, 3)] == [1, 2, 3]
    assert [stored.position for stored in await store.select_notifications(3, 3)] == [4, 5, 6]
    assert [stored.position for stored in await store.select_notifications(6, 3)] == [7]
    assert await store.select_notifications(7, 3) == []
    assert await store.select_notifications(100, 3) == []


async def test_the_log_is_read_for_some_topics_only(store: EventStore) -> None:
    for version in range(1, 4):
        await store.insert_events([record("a", version, "kept"), record("b", version, "used")])
        await store.insert_events([record("c", version, "lost")])

    kept = await store.select_notifications(0, ALL, ["kept"])
    two = await store.select_notifications(1, 3, ["lost", "kept"])

    assert names(kept) == [(1, "kept"), (4, "kept"), (7, "kept")]
    assert names(two) == [(3, "lost"), (4, "kept"), (6, "lost")]
    assert await store.select_notifications(0, ALL, ["never"]) == []


async def test_a_reader_of_the_last_position_finds_all_records_up_to_it(store: EventStore) -> None:
    seen = 0
    for version in range(1, 301):
        appending = asyncio.create_task(store.insert_events([record("a", version)]))
        while not appending.done():
            last = await store.max_notification_id()
            found = await store.select_notifications(seen, ALL)
            seen = found[-1].position if found else seen
            assert seen >= last
        await appending
