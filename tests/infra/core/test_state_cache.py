"""States are folded from the store when first needed, cached while in use, and never the only copy."""

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from contracts import PointDeposited
from infra.core.decider import Aggregate, Batch, StreamState
from infra.core.state_cache import StateCache, snapshot_topic
from infra.store.errors import StoreError
from infra.store.records import Record
from tests.infra.purse import AGGREGATES, Charge, Purse, WatchedStore, decide, evolve


async def charge(store: WatchedStore, cache: StateCache, *users: str, key: str = "first") -> list[Record]:
    """What the writer does for one command; returns the snapshots that are due."""
    command = Charge(users, 1, key)
    batch = Batch(AGGREGATES, await cache.get(command.streams))
    batch.decide(command)
    await store.insert_events(batch.records)
    return cache.publish(batch.forks)


async def test_a_stream_without_history_is_at_version_0(store: WatchedStore) -> None:
    (found,) = (await StateCache(AGGREGATES, store).get(["account-ann"])).values()

    assert (found.version, found.state) == (0, Purse())


async def test_a_state_is_folded_from_the_store(store: WatchedStore) -> None:
    for key in ("first", "second"):
        await charge(store, StateCache(AGGREGATES, store), "ann", "ben", key=key)

    found = await StateCache(AGGREGATES, store).get(["account-ben", "account-ann"])

    assert set(found) == {"account-ben", "account-ann"}
    assert {(one.version, one.state.balance) for one in found.values()} == {(2, 2)}


async def test_the_store_is_read_once_for_all_streams_that_are_missing(store: WatchedStore) -> None:
    cache = StateCache(AGGREGATES, store)

    await cache.get(["account-ann"])
    await cache.get(["account-ann", "account-ben", "account-cas"])
    await cache.get(["account-ben", "account-cas"])

    assert store.selected == [["account-ann"], ["account-ben", "account-cas"]]


async def test_a_published_state_is_returned_without_reading_the_store(store: WatchedStore) -> None:
    cache = StateCache(AGGREGATES, store)
    await charge(store, cache, "ann")
    store.selected.clear()

    (found,) = (await cache.get(["account-ann"])).values()

    assert (found.version, found.state.balance) == (1, 1)
    assert store.selected == []


async def test_an_evicted_state_is_folded_again(store: WatchedStore) -> None:
    cache = StateCache(AGGREGATES, store)
    await charge(store, cache, "ann")
    await charge(store, StateCache(AGGREGATES, store), "ann", key="by another writer")

    cache.evict(["account-ann", "account-nobody"])

    assert (await cache.get(["account-ann"]))["account-ann"].version == 2


async def test_a_state_published_while_an_older_one_is_read_stays_cached(
    store: WatchedStore,
) -> None:
    cache = StateCache(AGGREGATES, store)

    async def published_meanwhile() -> None:
        store.before_select = None
        await charge(store, cache, "ann")

    store.before_select = published_meanwhile
    (returned,) = (await cache.get(["account-ann"])).values()

    assert returned.version == 1
    assert (await cache.get(["account-ann"]))["account-ann"].version == 1


async def test_a_state_evicted_while_another_is_read_is_still_returned(store: WatchedStore) -> None:
    cache = StateCache(AGGREGATES, store)
    await cache.get(["account-ann"])

    async def evicted_meanwhile() -> None:
        cache.evict(["account-ann"])

    store.before_select = evicted_meanwhile
    found = await cache.get(["account-ann", "account-ben"])

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
    await store.insert_events([Record("account-ann", 1, "point.deposited", body)])

    with pytest.raises(StoreError, match="account-ann: a record cannot be read"):
        await StateCache(AGGREGATES, store).get(["account-ann"])


# The limit ------------------------------------------------------------------------------------------------------------


async def cached(cache: StateCache, store: WatchedStore, users: str) -> str:
    """The users among these whose states are cached."""
    found = ""
    for user in users:
        before = len(store.selected)
        await cache.get([f"account-{user}"])
        found += user if len(store.selected) == before else ""
    return found


async def test_beyond_the_limit_the_stream_written_longest_ago_is_evicted(store: WatchedStore) -> None:
    cache = StateCache(AGGREGATES, store, limit=3)

    for key, user in enumerate("abcbd"):
        await charge(store, cache, user, key=str(key))

    assert await cached(cache, store, "dbc") == "dbc"
    assert await cached(cache, store, "a") == ""


async def test_reading_alone_does_not_exceed_the_limit_either(store: WatchedStore) -> None:
    cache = StateCache(AGGREGATES, store, limit=3)

    await cache.get([f"account-{user}" for user in "abcdefgh"])

    assert len(await cached(cache, store, "hgf")) == 3
    assert await cached(cache, store, "abcde") == ""


async def test_a_batch_over_more_streams_than_the_limit_gets_all_of_them(store: WatchedStore) -> None:
    cache = StateCache(AGGREGATES, store, limit=3)

    await charge(store, cache, *"abcdefgh")

    found = await cache.get([f"account-{user}" for user in "abcdefgh"])
    assert [one.version for one in found.values()] == [1] * 8


# Snapshots ------------------------------------------------------------------------------------------------------------


async def test_a_snapshot_is_due_at_every_nth_version(store: WatchedStore) -> None:
    cache = StateCache(AGGREGATES, store, snapshot_every=3)

    due = [await charge(store, cache, "ann", key=str(n)) for n in range(1, 8)]

    assert [[record.originator_version for record in records] for records in due] == [[], [], [3], [], [], [6], []]
    assert {record.originator_id for records in due for record in records} == {"account-ann"}


async def test_a_snapshot_is_due_when_a_batch_jumps_over_its_version(store: WatchedStore) -> None:
    cache = StateCache(AGGREGATES, store, snapshot_every=3)
    await cache.get(["account-ann"])

    (due,) = cache.publish({"account-ann": StreamState(4, Purse(4, {"k"}))})

    assert due == Record(
        "account-ann", 4, snapshot_topic("account", AGGREGATES["account"]), msgspec.json.encode(Purse(4, {"k"}))
    )


async def saved(store: WatchedStore, aggregate: Aggregate, version: int, state: Any) -> None:
    """Save a snapshot whose state differs from what the records fold to."""
    topic = snapshot_topic("account", aggregate)
    await store.insert_snapshots([Record("account-ann", version, topic, msgspec.json.encode(state))])


async def test_a_state_is_folded_from_its_newest_snapshot(store: WatchedStore) -> None:
    for n in range(5):
        await charge(store, StateCache(AGGREGATES, store), "ann", key=str(n))
    await saved(store, AGGREGATES["account"], 3, Purse(1_000, {"0", "1", "2"}))

    (found,) = (await StateCache(AGGREGATES, store).get(["account-ann"])).values()

    assert (found.version, found.state) == (5, Purse(1_002, {"0", "1", "2", "3", "4"}))


async def test_a_snapshot_alone_makes_a_state(store: WatchedStore) -> None:
    await charge(store, StateCache(AGGREGATES, store), "ann")
    await saved(store, AGGREGATES["account"], 1, Purse(1_000))

    (found,) = (await StateCache(AGGREGATES, store).get(["account-ann"])).values()

    assert (found.version, found.state) == (1, Purse(1_000))


class OlderPurse(Struct):
    """The shape of a purse before it remembered its keys."""

    balance: int = 0


async def test_a_snapshot_of_another_shape_is_not_read(store: WatchedStore) -> None:
    await charge(store, StateCache(AGGREGATES, store), "ann")
    await saved(store, Aggregate(OlderPurse, decide, evolve), 1, OlderPurse(1_000))

    (found,) = (await StateCache(AGGREGATES, store).get(["account-ann"])).values()

    assert (found.version, found.state) == (1, Purse(1, {"first"}))


def evolve_half(state: Purse, fact: PointDeposited) -> None:
    """How an older version folded a charge."""
    evolve(state, fact)
    state.balance -= fact.points // 2


async def test_a_snapshot_of_another_evolve_is_not_read(store: WatchedStore) -> None:
    await charge(store, StateCache(AGGREGATES, store), "ann")
    await saved(store, Aggregate(Purse, decide, evolve_half), 1, Purse(500, {"first"}))

    (found,) = (await StateCache(AGGREGATES, store).get(["account-ann"])).values()

    assert (found.version, found.state) == (1, Purse(1, {"first"}))


def test_the_topic_of_a_snapshot_names_its_aggregate_and_its_code() -> None:
    now = snapshot_topic("account", AGGREGATES["account"])

    assert now.startswith("account.snapshot.")
    assert now == snapshot_topic("account", AGGREGATES["account"])
    assert now != snapshot_topic("account", Aggregate(OlderPurse, decide, evolve))
    assert now != snapshot_topic("account", Aggregate(Purse, decide, evolve_half))
    assert now == snapshot_topic("account", Aggregate(Purse, list, evolve)), "a decision changes no state"


async def test_reads_at_once_of_one_stream_agree(store: WatchedStore) -> None:
    await charge(store, StateCache(AGGREGATES, store), "ann")
    cache = StateCache(AGGREGATES, store)

    found = await asyncio.gather(*(cache.get(["account-ann"]) for _ in range(5)))

    assert len({id(states["account-ann"]) for states in found}) == 1
