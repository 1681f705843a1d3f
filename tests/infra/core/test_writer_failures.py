"""When another writer was first, or the store fails: no reader sees half of a batch, and repeating is safe."""

import asyncio
from collections.abc import Sequence

import pytest
from eventsourcing.persistence import OperationalError

from contracts.wire import encode
from infra.core.errors import FoldError, StoreUnavailable, StreamUnreadable
from infra.core.limits import WriterLimits
from infra.core.unit_of_work import MAX_CONFLICTS, Answer
from infra.store.errors import Conflict, StoreError
from infra.store.records import Record
from tests.infra.core.test_writer import charged
from tests.infra.purse import NOON, UNLUCKY, Acknowledgements, WatchedStore, balances, issued
from tests.infra.writing import Desk, working
from tests.shop import attempts


def by_another(user: str, version: int, key: str, amount: int = 1) -> Record:
    return Record(f"account-{user}", version, "point.deposited", encode(charged(user, amount, key)))


def another_is_first(store: WatchedStore, *stored: Record, times: int = 1) -> None:
    """Before each of the next `times` appends, another writer records these (at whatever version comes next)."""
    left = times

    async def insert(records: Sequence[Record]) -> None:
        nonlocal left
        if left:
            left -= 1
            await store.inner.insert_events(stored)
        else:
            store.insert = store.inner.insert_events
        await store.inner.insert_events(records)

    store.insert = insert


class Failing:
    """Appends that fail; with `recorded` they are recorded all the same."""

    def __init__(self, store: WatchedStore, *, recorded: bool = False) -> None:
        self._store = store
        self._recorded = recorded
        store.insert = self._insert

    async def _insert(self, records: Sequence[Record]) -> None:
        if self._recorded:
            await self._store.inner.insert_events(records)
        raise OperationalError("disk I/O error")

    def heal(self) -> None:
        self._store.insert = self._store.inner.insert_events


# Conflicts ------------------------------------------------------------------------------------------------------------


async def test_a_conflict_is_decided_again_on_fresh_states(desk: Desk) -> None:
    await desk.charge("ann", key="mine 1")
    another_is_first(desk.store, by_another("ann", 2, "theirs", 100))

    answer = await desk.charge("ann", key="mine 2")

    assert balances(answer.states) == [102]
    assert await desk.log() == [("account-ann", 1), ("account-ann", 2), ("account-ann", 3)]
    assert desk.published == [charged("ann", 1, "mine 1"), charged("ann", 1, "mine 2")]


async def test_a_conflict_decides_the_whole_batch_again(desk: Desk) -> None:
    another_is_first(desk.store, by_another("ann", 1, "theirs", 100))

    answers = await asyncio.gather(desk.charge("ben"), desk.charge("ann"), desk.charge("ben", "ann", key="both"))

    assert [balances(answer.states) for answer in answers] == [[2], [102], [2, 102]]
    assert await desk.log() == [
        ("account-ann", 1),
        ("account-ben", 1),
        ("account-ann", 2),
        ("account-ben", 2),
        ("account-ann", 3),
    ]


async def test_after_a_conflict_there_may_be_nothing_left_to_record(desk: Desk) -> None:
    another_is_first(desk.store, by_another("ann", 1, "first"))

    answer = await desk.charge("ann")

    assert (answer.facts, balances(answer.states)) == ([], [1])
    assert await desk.log() == [("account-ann", 1)]
    assert desk.published == []


async def test_conflicts_without_end_are_a_failure_of_the_store(desk: Desk) -> None:
    async def insert(_: Sequence[Record]) -> None:
        raise Conflict

    desk.store.insert = insert

    with pytest.raises(StoreUnavailable, match="conflicts in a row"):
        await desk.charge("ann")

    assert len(desk.store.appends) == MAX_CONFLICTS
    assert await desk.balance("ann") == 0


# Failures -------------------------------------------------------------------------------------------------------------


async def test_a_failing_store_is_answered_and_leaves_nothing_behind(desk: Desk) -> None:
    await desk.charge("ann", key="before")
    failing = Failing(desk.store)

    outcomes = await asyncio.gather(desk.charge("ann", amount=5), desk.charge("ben"), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 2
    assert (await desk.balance("ann"), await desk.balance("ben")) == (1, 0)
    assert desk.published == [charged("ann", 1, "before")]

    failing.heal()
    assert balances((await desk.charge("ann", amount=5)).states) == [6]


async def test_a_commit_that_was_recorded_although_it_failed_is_recognised_when_repeated(desk: Desk) -> None:
    failing = Failing(desk.store, recorded=True)
    with pytest.raises(StoreUnavailable):
        await desk.charge("ann", amount=5)
    failing.heal()
    assert await desk.balance("ann") == 5  # the cached state was evicted

    answer = await desk.charge("ann", amount=5)

    assert (answer.facts, balances(answer.states)) == ([], [5])
    assert await desk.log() == [("account-ann", 1)]


async def test_followers_of_the_log_learn_of_what_was_recorded_although_it_failed(store: WatchedStore) -> None:
    """Otherwise a relay would not publish it before the next append, and an order's deadline would not run."""
    async with working(store, limits=WriterLimits(recheck_s=0.01)) as desk:
        failing = Failing(store, recorded=True)
        with pytest.raises(StoreUnavailable):
            await desk.charge("ann", amount=5)
        failing.heal()

        async for _ in attempts("the facts to be published"):
            if desk.published:
                break

        assert desk.published == [charged("ann", 5, "first")]
        await desk.charge("ben")
        assert desk.published == [charged("ann", 5, "first"), charged("ben", 1, "first")]


async def test_a_batch_that_was_recorded_although_it_failed_is_followed_like_any_other(store: WatchedStore) -> None:
    """Otherwise an order's end that it has would get no line in the log, and no span."""
    followed: list[tuple[int, list[object], list[int]]] = []
    async with working(store, limits=WriterLimits(recheck_s=0.01)) as desk:
        desk.writer.on_settled.append(
            lambda work, outcomes, records: followed.append(
                (len(work), [*outcomes], [record.originator_version for record in records])
            )
        )
        failing = Failing(store, recorded=True)
        with pytest.raises(StoreUnavailable):
            await desk.charge("ann", amount=5)
        failing.heal()

        async for _ in attempts("the batch to be followed"):
            if followed:
                break

        assert followed[0] == (1, [[charged("ann", 5, "first")]], [1])


async def test_an_append_that_failed_and_was_not_recorded_is_not_published(desk: Desk) -> None:
    failing = Failing(desk.store)
    with pytest.raises(StoreUnavailable):
        await desk.charge("ann", amount=5)
    failing.heal()

    await desk.charge("ben")

    assert desk.published == [charged("ben", 1, "first")]


async def test_while_the_store_cannot_be_read_after_a_failure_nothing_more_is_recorded(desk: Desk) -> None:
    async def fail() -> None:
        raise OperationalError("disk I/O error")

    failing = Failing(desk.store, recorded=True)
    with pytest.raises(StoreUnavailable):
        await desk.charge("ann", amount=5)
    failing.heal()
    desk.store.before_select = fail

    with pytest.raises(StoreUnavailable):
        await desk.charge("ben")
    desk.store.before_select = None
    await desk.charge("cas")

    assert desk.published == [charged("ann", 5, "first"), charged("cas", 1, "first")]


async def test_a_delivery_during_a_failure_is_not_acknowledged_and_comes_again(desk: Desk) -> None:
    acknowledger = Acknowledgements()
    failing = Failing(desk.store)
    desk.deliver(issued("ann"), acknowledger)
    await acknowledger.news.wait()

    assert [type(error) for error in acknowledger.errors] == [OperationalError]
    assert acknowledger.acknowledged == []

    failing.heal()
    again = Acknowledgements()
    delivery = desk.deliver(issued("ann"), again)
    await again.news.wait()
    assert again.acknowledged == [delivery]
    assert await desk.log() == [("account-ann", 1)]


async def test_a_store_that_cannot_be_read_fails_requests_and_reads_alike(desk: Desk) -> None:
    async def fail() -> None:
        raise OperationalError("disk I/O error")

    desk.store.before_select = fail

    with pytest.raises(StoreUnavailable):
        await desk.charge("ann")
    with pytest.raises(StoreUnavailable):
        await desk.balance("ann")

    desk.store.before_select = None
    assert balances((await desk.charge("ann")).states) == [1]


async def test_a_record_that_cannot_be_read_fails_its_request_and_no_later_one(desk: Desk) -> None:
    await desk.store.inner.insert_events([Record("account-ann", 1, "point.deposited", b"{")])

    with pytest.raises(StoreUnavailable, match="account-ann"):
        await desk.charge("ann")

    assert balances((await desk.charge("ben")).states) == [1]


async def test_snapshots_that_cannot_be_saved_fail_no_request(store: WatchedStore) -> None:
    async def save(_: Sequence[Record]) -> None:
        raise StoreError

    store.save = save
    async with working(store, limits=WriterLimits(snapshot_every=1)) as desk:
        for n in range(1, 4):
            assert balances((await desk.charge("ann", key=str(n))).states) == [n]


async def test_a_fact_that_cannot_be_folded_fails_its_request_and_no_other(desk: Desk) -> None:
    ben, ann, cas = await asyncio.gather(
        desk.charge("ben"), desk.charge("ann", amount=UNLUCKY), desk.charge("cas"), return_exceptions=True
    )

    assert isinstance(ann, FoldError)
    assert [type(answer) for answer in (ben, cas)] == [Answer, Answer]
    assert await desk.log() == [("account-ben", 1), ("account-cas", 1)]


async def test_a_delivery_over_a_damaged_stream_is_rejected_and_others_are_handled(desk: Desk) -> None:
    await desk.store.inner.insert_events([Record("account-ann", 1, "point.deposited", b"{")])
    acknowledger = Acknowledgements()
    poisoned = desk.deliver(issued("ann"), acknowledger, 1, "c1")
    last = desk.deliver(issued("ben"), acknowledger, 2, "c2")
    await desk.writer.drained()

    assert [(delivery, type(error)) for delivery, error in acknowledger.rejections] == [(poisoned, StreamUnreadable)]
    assert acknowledger.acknowledged == [last]
    assert await desk.log() == [("account-ann", 1), ("account-ben", 1)]


async def test_a_restarted_writer_continues_where_the_last_one_was_killed(store: WatchedStore) -> None:
    async with working(store) as desk:
        await desk.charge("ann", key="1")
        failing = Failing(store, recorded=True)
        await asyncio.gather(desk.charge("ann", key="2"), return_exceptions=True)
        failing.heal()

    async with working(store) as restarted:
        answers = [await restarted.charge("ann", key=key) for key in ("1", "2", "3")]

    assert [len(answer.facts) for answer in answers] == [0, 0, 1]
    assert answers[-1].facts == [charged("ann", 1, "3")]
    assert answers[-1].facts[0].at == NOON


# Suspended ------------------------------------------------------------------------------------------------------------


async def test_a_suspended_writer_refuses_requests_with_the_reason_until_it_is_resumed(desk: Desk) -> None:
    await desk.charge("ann", key="before")
    desk.writer.suspend("this is not the store that published before")

    with pytest.raises(StoreUnavailable, match="not the store that published before"):
        await desk.charge("ann", key="meanwhile")
    assert await desk.balance("ann") == 1  # reads still work

    desk.writer.resume()
    assert balances((await desk.charge("ann", key="after")).states) == [2]
    assert await desk.log() == [("account-ann", 1), ("account-ann", 2)]
