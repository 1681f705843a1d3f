"""Heads are folded from the store when first needed, kept while in use, and never the only copy of anything."""

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from infra.core import state_cache as module
from infra.core.decider import Aggregate, Batch, StreamState
from infra.core.state_cache import StateCache, snapshot_topic
from infra.store.event_store import StoreError
from infra.store.records import Record
from tests.infra.purse import AGGREGATES, Charge, Purse, WatchedStore, decide, evolve


async def charge(store: WatchedStore, heads: StateCache, *users: str, key: str = "first") -> list[Record]:
    """What the writer does for one command; gives the snapshots that are due."""
    command = Charge(users, 1, key)
    batch = Batch(AGGREGATES, await heads.get(command.streams))
    batch.decide(command)
    await store.insert_events(batch.records)
    return heads.put(batch.forks)


async def test_a_stream_without_history_is_at_version_0(store: WatchedStore) -> None:
    (head,) = (await StateCache(AGGREGATES, store).get(["account-ann"])).values()

    assert (head.version, head.state) == (0, Purse())


async def test_a_head_is_folded_from_the_store(store: WatchedStore) -> None:
    for key in ("first", "second"):
        await charge(store, StateCache(AGGREGATES, store), "ann", "ben", key=key)

    found = await StateCache(AGGREGATES, store).get(["account-ben", "account-ann"])

    assert set(found) == {"account-ben", "account-ann"}
    assert {(head.version, head.state.balance) for head in found.values()} == {(2, 2)}


async def test_the_store_is_asked_once_for_all_streams_that_are_missing(store: WatchedStore) -> None:
    heads = StateCache(AGGREGATES, store)

    await heads.get(["account-ann"])
    await heads.get(["account-ann", "account-ben", "account-cas"])
    await heads.get(["account-ben", "account-cas"])

    assert store.asked_for == [["account-ann"], ["account-ben", "account-cas"]]


async def test_what_was_put_is_seen_without_asking_the_store(store: WatchedStore) -> None:
    heads = StateCache(AGGREGATES, store)
    await charge(store, heads, "ann")
    store.asked_for.clear()

    (head,) = (await heads.get(["account-ann"])).values()

    assert (head.version, head.state.balance) == (1, 1)
    assert store.asked_for == []


async def test_a_dropped_head_is_folded_again(store: WatchedStore) -> None:
    heads = StateCache(AGGREGATES, store)
    await charge(store, heads, "ann")
    await charge(store, StateCache(AGGREGATES, store), "ann", key="by another writer")

    heads.drop(["account-ann", "account-nobody"])

    assert (await heads.get(["account-ann"]))["account-ann"].version == 2


async def test_a_head_that_was_recorded_while_an_older_one_was_being_read_is_the_one_that_stays(
    store: WatchedStore,
) -> None:
    heads = StateCache(AGGREGATES, store)

    async def recorded_meanwhile() -> None:
        store.before_select = None
        await charge(store, heads, "ann")

    store.before_select = recorded_meanwhile
    (seen,) = (await heads.get(["account-ann"])).values()

    assert seen.version == 1
    assert (await heads.get(["account-ann"]))["account-ann"].version == 1


async def test_a_head_that_was_dropped_while_another_was_being_read_is_still_given(store: WatchedStore) -> None:
    heads = StateCache(AGGREGATES, store)
    await heads.get(["account-ann"])

    async def dropped_meanwhile() -> None:
        heads.drop(["account-ann"])

    store.before_select = dropped_meanwhile
    found = await heads.get(["account-ann", "account-ben"])

    assert set(found) == {"account-ann", "account-ben"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="not JSON"),
        pytest.param(b'{"type":"point.stolen","at":"2026-03-01T09:30:00Z"}', id="a fact of newer code"),
    ],
)
async def test_a_record_that_cannot_be_read_is_a_store_error_that_names_the_stream(
    store: WatchedStore, body: bytes
) -> None:
    await store.insert_events([Record("account-ann", 1, "point.charged", body)])

    with pytest.raises(StoreError, match="account-ann: a record cannot be read"):
        await StateCache(AGGREGATES, store).get(["account-ann"])


# The bound ------------------------------------------------------------------------------------------------------------


async def cached(heads: StateCache, store: WatchedStore, users: str) -> str:
    """Those of these users whose heads need no question to the store."""
    found = ""
    for user in users:
        before = len(store.asked_for)
        await heads.get([f"account-{user}"])
        found += user if len(store.asked_for) == before else ""
    return found


async def test_beyond_the_bound_what_was_written_longest_ago_is_dropped(store: WatchedStore) -> None:
    heads = StateCache(AGGREGATES, store, limit=3)

    for key, user in enumerate("abcbd"):
        await charge(store, heads, user, key=str(key))

    assert await cached(heads, store, "dbc") == "dbc"
    assert await cached(heads, store, "a") == ""


async def test_reading_alone_does_not_go_beyond_the_bound_either(store: WatchedStore) -> None:
    heads = StateCache(AGGREGATES, store, limit=3)

    await heads.get([f"account-{user}" for user in "abcdefgh"])

    assert len(await cached(heads, store, "hgf")) == 3
    assert await cached(heads, store, "abcde") == ""


async def test_a_batch_over_more_streams_than_the_bound_gets_all_of_them(store: WatchedStore) -> None:
    heads = StateCache(AGGREGATES, store, limit=3)

    await charge(store, heads, *"abcdefgh")

    found = await heads.get([f"account-{user}" for user in "abcdefgh"])
    assert [head.version for head in found.values()] == [1] * 8


# Snapshots ------------------------------------------------------------------------------------------------------------


async def test_a_snapshot_is_due_every_so_many_versions(store: WatchedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 3)
    heads = StateCache(AGGREGATES, store)

    due = [await charge(store, heads, "ann", key=str(n)) for n in range(1, 8)]

    assert [[record.originator_version for record in records] for records in due] == [[], [], [3], [], [], [6], []]
    assert {record.originator_id for records in due for record in records} == {"account-ann"}


async def test_a_snapshot_is_due_when_a_batch_jumps_over_its_version(
    store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 3)
    heads = StateCache(AGGREGATES, store)
    await heads.get(["account-ann"])

    (due,) = heads.put({"account-ann": StreamState(4, Purse(4, {"k"}))})

    assert due == Record(
        "account-ann", 4, snapshot_topic("account", AGGREGATES["account"]), msgspec.json.encode(Purse(4, {"k"}))
    )


async def kept(store: WatchedStore, aggregate: Aggregate, version: int, state: Any) -> None:
    """A snapshot that can be told from what the records say."""
    topic = snapshot_topic("account", aggregate)
    await store.insert_snapshots([Record("account-ann", version, topic, msgspec.json.encode(state))])


async def test_a_head_is_folded_from_its_newest_snapshot(store: WatchedStore) -> None:
    for n in range(5):
        await charge(store, StateCache(AGGREGATES, store), "ann", key=str(n))
    await kept(store, AGGREGATES["account"], 3, Purse(1_000, {"0", "1", "2"}))

    (head,) = (await StateCache(AGGREGATES, store).get(["account-ann"])).values()

    assert (head.version, head.state) == (5, Purse(1_002, {"0", "1", "2", "3", "4"}))


async def test_a_snapshot_alone_makes_a_head(store: WatchedStore) -> None:
    await charge(store, StateCache(AGGREGATES, store), "ann")
    await kept(store, AGGREGATES["account"], 1, Purse(1_000))

    (head,) = (await StateCache(AGGREGATES, store).get(["account-ann"])).values()

    assert (head.version, head.state) == (1, Purse(1_000))


class OlderPurse(Struct):
    """The shape of a purse before it remembered its keys."""

    balance: int = 0


async def test_a_snapshot_of_another_shape_is_not_read(store: WatchedStore) -> None:
    await charge(store, StateCache(AGGREGATES, store), "ann")
    await kept(store, Aggregate(OlderPurse, decide, evolve), 1, OlderPurse(1_000))

    (head,) = (await StateCache(AGGREGATES, store).get(["account-ann"])).values()

    assert (head.version, head.state) == (1, Purse(1, {"first"}))


def test_the_topic_of_a_snapshot_names_its_aggregate_and_its_shape() -> None:
    now = snapshot_topic("account", AGGREGATES["account"])

    assert now.startswith("account.snapshot.")
    assert now == snapshot_topic("account", AGGREGATES["account"])
    assert now != snapshot_topic("account", Aggregate(OlderPurse, decide, evolve))


async def test_reads_at_once_of_one_stream_agree(store: WatchedStore) -> None:
    await charge(store, StateCache(AGGREGATES, store), "ann")
    heads = StateCache(AGGREGATES, store)

    found = await asyncio.gather(*(heads.get(["account-ann"]) for _ in range(5)))

    assert len({id(head["account-ann"]) for head in found}) == 1
