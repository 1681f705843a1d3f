"""The one writer: it decides everything that has arrived, records it once, and only then answers and acknowledges."""

import asyncio

import msgspec
import pytest

from contracts import PointDeposited
from contracts.origin import ForeignMessage
from contracts.wire import encode
from infra.core.errors import Busy
from infra.core.limits import WriterLimits
from infra.core.messages import Delivery, StreamPosition
from infra.core.state_cache import snapshot_topic
from infra.core.writer import Writer
from tests.infra.purse import AGGREGATES, NOON, Acknowledgements, NothingToCharge, Purse, WatchedStore, balances, issued
from tests.infra.writing import Desk, Gate, relayed, working
from tests.shop import PATIENCE_S


def charged(user: str, amount: int, key: str, cause: str | None = None) -> PointDeposited:
    return PointDeposited(at=NOON, cause=cause, user_id=user, points=amount, idempotency_key=key)


# Requests -------------------------------------------------------------------------------------------------------------


async def test_an_answer_has_the_facts_and_the_states_after_them(desk: Desk) -> None:
    await desk.charge("ben", amount=2, key="alone")

    answer = await desk.charge("ben", "ann", amount=5)

    assert answer.facts == [charged("ben", 5, "first"), charged("ann", 5, "first")]
    assert balances(answer.states) == [7, 5]
    assert await desk.log() == [("account-ben", 1), ("account-ben", 2), ("account-ann", 1)]


async def test_a_repeated_request_is_recorded_once(desk: Desk) -> None:
    await desk.charge("ann")
    again = await desk.charge("ann")

    assert again.facts == []
    assert balances(again.states) == [1]
    assert await desk.log() == [("account-ann", 1)]
    assert len(desk.store.appends) == 1


async def test_a_read_after_an_answer_sees_what_was_answered(desk: Desk) -> None:
    for n in range(1, 20):
        await desk.charge("ann", key=str(n))
        assert await desk.balance("ann") == n


async def test_nothing_is_read_answered_or_published_before_it_is_recorded(desk: Desk) -> None:
    gate = Gate(desk.store)
    asking = desk.asking("ann", amount=5)
    await gate.reached.wait()

    assert await desk.balance("ann") == 0
    assert not asking.done()
    assert desk.published == []

    gate.opened.set()
    await asking
    assert await desk.balance("ann") == 5
    assert desk.published == [charged("ann", 5, "first")]


async def test_followers_of_the_log_get_a_fact_before_its_request_is_answered(store: WatchedStore) -> None:
    events: list[str] = []
    desk = Desk(store)
    desk.writer = Writer(AGGREGATES, {}, store, lambda: NOON, lambda _: events.append("published"))
    run = asyncio.create_task(desk.writer.run())
    asking = desk.asking("ann")
    asking.add_done_callback(lambda _: events.append("answered"))
    await asking
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)

    assert events == ["published", "answered"]


async def test_requests_that_arrive_during_a_commit_share_the_next_one(desk: Desk) -> None:
    gate = Gate(desk.store)
    first = desk.asking("ann")
    await gate.reached.wait()
    assert desk.writer.waiting == 0
    waiting = [desk.asking("ben", key=str(n)) for n in range(20)]
    await asyncio.sleep(0)
    assert desk.writer.waiting == 20
    gate.opened.set()
    await asyncio.gather(first, *waiting)

    assert desk.writer.waiting == 0
    assert [len(append) for append in desk.store.appends] == [1, 20]


async def some_turns() -> None:
    """More turns of the event loop than the writer needs to take up waiting work."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_small_batch_right_after_a_commit_waits_for_more(store: WatchedStore) -> None:
    async with working(store, limits=WriterLimits(pace_s=1.0)) as desk:
        await asyncio.gather(desk.charge("ann"), desk.charge("eve"))
        soon = desk.asking("ben")
        await some_turns()
        await asyncio.gather(soon, desk.charge("cal"))

    assert store.appends == [["account-ann", "account-eve"], ["account-ben", "account-cal"]]


async def test_isolated_commands_and_a_large_batch_do_not_wait(store: WatchedStore) -> None:
    async with working(store, limits=WriterLimits(pace_s=3_600, few=3)) as desk, asyncio.timeout(PATIENCE_S):
        await desk.charge("ann")
        await desk.charge("eve")
        await asyncio.gather(*(desk.charge(user) for user in ("ben", "cal", "dan")))
        await asyncio.gather(*(desk.charge(user) for user in ("fay", "gil", "hal")))

    assert store.appends[:2] == [["account-ann"], ["account-eve"]]
    assert [len(batch) for batch in store.appends[2:]] == [3, 3]


async def test_a_batch_is_bounded(store: WatchedStore) -> None:
    async with working(store, limits=WriterLimits(max_batch=8)) as desk:
        await asyncio.gather(*(desk.charge("ann", key=str(n)) for n in range(20)))

    assert [len(append) for append in store.appends] == [8, 8, 4]


async def test_the_same_request_many_times_at_once_is_recorded_once(desk: Desk) -> None:
    answers = await asyncio.gather(*(desk.charge("ann") for _ in range(50)))

    assert sorted(len(answer.facts) for answer in answers) == [0] * 49 + [1]
    assert await desk.log() == [("account-ann", 1)]


async def test_a_request_that_should_not_have_been_made_does_not_disturb_the_others(desk: Desk) -> None:
    good, bad, other = await asyncio.gather(
        desk.charge("ann"), desk.charge("ann", amount=0), desk.charge("ben"), return_exceptions=True
    )

    assert isinstance(bad, NothingToCharge)
    assert not isinstance(good, BaseException)
    assert not isinstance(other, BaseException)
    assert (balances(good.states), balances(other.states)) == ([1], [1])
    assert desk.store.appends == [["account-ann", "account-ben"]]


async def test_a_client_that_went_away_does_not_disturb_the_others(desk: Desk) -> None:
    gate = Gate(desk.store)
    gone, staying = desk.asking("ann"), desk.asking("ben")
    await gate.reached.wait()
    gone.cancel()
    gate.opened.set()
    await asyncio.gather(gone, return_exceptions=True)

    assert balances((await staying).states) == [1]
    assert await desk.balance("ann") == 1


async def test_too_many_waiting_requests_are_turned_away_and_recorded_never(store: WatchedStore) -> None:
    desk = Desk(store, limits=WriterLimits(max_waiting_requests=2))  # its writer does not run yet
    waiting = [desk.asking("ann"), desk.asking("ben")]
    await asyncio.sleep(0)

    with pytest.raises(Busy):
        await desk.charge("cas")

    run = asyncio.create_task(desk.writer.run())
    await asyncio.gather(*waiting)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert await desk.log() == [("account-ann", 1), ("account-ben", 1)]


async def test_drained_waits_for_what_is_in_hand(desk: Desk) -> None:
    gate = Gate(desk.store)
    asking = desk.asking("ann")
    await gate.reached.wait()
    draining = asyncio.create_task(desk.writer.drained())
    await asyncio.sleep(0)
    assert not draining.done()

    gate.opened.set()
    await draining

    assert await desk.log() == [("account-ann", 1)]
    await asking


# Messages -------------------------------------------------------------------------------------------------------------


async def test_a_delivery_is_decided_with_its_fact_id_as_the_cause(desk: Desk) -> None:
    acknowledger = Acknowledgements()

    delivery = desk.deliver(issued("ann", 5, "c7"), acknowledger)
    await acknowledger.news.wait()

    assert desk.published == [charged("ann", 5, "c7", cause="coupon-c7@1")]
    assert acknowledger.acknowledged == [delivery]


async def test_deliveries_and_requests_share_one_commit_and_one_acknowledgement(desk: Desk) -> None:
    acknowledger = Acknowledgements()
    last = [desk.deliver(issued("ann", coupon=f"c{n}"), acknowledger, n) for n in range(1, 6)][-1]

    await desk.charge("ben")

    assert desk.store.appends == [["account-ann"] * 5 + ["account-ben"]]
    assert acknowledger.acknowledged == [last]


async def test_each_consumer_of_a_batch_gets_its_own_last_delivery_acknowledged(desk: Desk) -> None:
    one, other = Acknowledgements(), Acknowledgements()
    last = [desk.deliver(issued("ann", coupon=f"c{n}"), (one, other)[n % 2], n) for n in range(1, 6)][-2:]

    await desk.writer.drained()

    assert [one.acknowledged, other.acknowledged] == [[last[0]], [last[1]]]


async def test_a_delivery_is_not_acknowledged_before_it_is_recorded(desk: Desk) -> None:
    gate, acknowledger = Gate(desk.store), Acknowledgements()
    desk.deliver(issued("ann"), acknowledger)
    await gate.reached.wait()
    assert acknowledger.acknowledged == []

    gate.opened.set()
    await acknowledger.news.wait()

    assert await desk.log() == [("account-ann", 1)]


async def test_a_fact_delivered_twice_is_acknowledged_twice_and_recorded_once(desk: Desk) -> None:
    acknowledger = Acknowledgements()
    first = desk.deliver(issued("ann"), acknowledger, 1)
    await desk.writer.drained()
    second = desk.deliver(issued("ann"), acknowledger, 2)
    await desk.writer.drained()

    assert acknowledger.acknowledged == [first, second]
    assert await desk.log() == [("account-ann", 1)]


async def test_a_fact_without_a_reaction_is_acknowledged_and_nothing_else(desk: Desk) -> None:
    acknowledger = Acknowledgements()

    delivery = desk.deliver(charged("ann", 1, "k"), acknowledger)
    await desk.writer.drained()

    assert acknowledger.acknowledged == [delivery]
    assert desk.store.appends == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"not JSON", id="not JSON"),
        pytest.param(b'{"type":"coupon.melted","at":"2026-03-01T09:30:00Z"}', id="a fact that does not exist"),
        pytest.param(b'{"type":"coupon.issued","at":"2026-03-01T09:30:00Z"}', id="fields are missing"),
    ],
)
async def test_an_unreadable_body_is_rejected_and_all_others_are_handled(desk: Desk, body: bytes) -> None:
    acknowledger = Acknowledgements()
    desk.deliver(issued("ann", coupon="c1"), acknowledger, 1)
    poison = desk.deliver_body(body, acknowledger, 2, "c2")
    last = desk.deliver(issued("ann", coupon="c3"), acknowledger, 3)

    await desk.charge("ben")

    assert [delivery for delivery, _ in acknowledger.rejections] == [poison]
    assert isinstance(acknowledger.rejections[0][1], msgspec.DecodeError | ForeignMessage)
    assert acknowledger.acknowledged == [last]
    assert (acknowledger.errors, acknowledger.closed) == ([], False)
    assert await desk.log() == [("account-ann", 1), ("account-ann", 2), ("account-ben", 1)]


async def test_a_delivery_behind_a_rejected_one_of_its_key_is_deferred(desk: Desk) -> None:
    acknowledger = Acknowledgements()
    before = desk.deliver(issued("ann", coupon="c1"), acknowledger, 1, "k")
    poison = desk.deliver_body(b"{", acknowledger, 2, "k")
    behind = desk.deliver(issued("ben", coupon="c1"), acknowledger, 3, "k")
    desk.deliver(issued("cas", coupon="c1"), acknowledger, 4, "another")
    await desk.writer.drained()
    later = desk.deliver(issued("dan", coupon="c1"), acknowledger, 5, "k")
    await desk.writer.drained()

    assert [delivery for delivery, _ in acknowledger.rejections] == [poison]
    assert acknowledger.deferred == [behind, later]
    assert before not in acknowledger.deferred
    assert await desk.log() == [("account-ann", 1), ("account-cas", 1)]


async def test_a_delivery_whose_decision_fails_is_rejected_and_leaves_nothing_in_the_batch(desk: Desk) -> None:
    acknowledger = Acknowledgements()
    refused = desk.deliver(issued("ann", discount=0), acknowledger)

    await desk.charge("ben")

    assert [(delivery, type(error)) for delivery, error in acknowledger.rejections] == [(refused, NothingToCharge)]
    assert await desk.log() == [("account-ben", 1)]


async def test_an_attempt_returns_what_was_recorded_or_raises_what_prevents_it(desk: Desk) -> None:
    acknowledger = Acknowledgements()
    good, bad = (
        Delivery("coupon-c1@1", body, "", StreamPosition(1, 1), "coupon.issued.c1", relayed("coupon-c1@1"))
        for body in (encode(issued("ann")), b"{")
    )

    assert await desk.writer.attempt(good) == [charged("ann", 1, "c1", "coupon-c1@1")]
    assert await desk.writer.attempt(good) == []
    with pytest.raises(msgspec.DecodeError):
        await desk.writer.attempt(bad)

    assert await desk.log() == [("account-ann", 1)]
    assert acknowledger.acknowledged == []


async def test_a_preview_decides_one_after_another_and_records_nothing(desk: Desk) -> None:
    bodies = [encode(issued("ann", 5, "c1")), encode(issued("ann", 5, "c1")), b"{", encode(issued("ben"))]
    waiting = [
        Delivery(f"coupon-c1@{n}", body, "", StreamPosition(n, n), "coupon.issued.c1", relayed(f"coupon-c1@{n}"))
        for n, body in enumerate(bodies, 1)
    ]

    outcomes = await desk.writer.preview(waiting)

    assert outcomes[:2] == [[charged("ann", 5, "c1", "coupon-c1@1")], []]
    assert [type(outcome) for outcome in outcomes[2:]] == [msgspec.DecodeError]
    assert await desk.log() == []
    assert await desk.balance("ann") == 0


async def test_deliveries_of_a_closed_session_are_left_for_their_redelivery(desk: Desk) -> None:
    acknowledger = Acknowledgements()
    desk.deliver(issued("ann"), acknowledger)
    acknowledger.closed = True

    await desk.charge("ben")

    assert (acknowledger.acknowledged, acknowledger.errors) == ([], [])
    assert await desk.log() == [("account-ben", 1)]


# Snapshots ------------------------------------------------------------------------------------------------------------


async def test_snapshots_are_saved_and_folded_from(store: WatchedStore) -> None:
    topic = snapshot_topic("account", AGGREGATES["account"])
    async with working(store, limits=WriterLimits(snapshot_every=3)) as desk:
        for n in range(1, 8):
            await desk.charge("ann", key=str(n))

    snapshot, records, _ = (await store.inner.select_streams(["account-ann"], [topic]))["account-ann"]
    assert snapshot is not None
    assert (snapshot.originator_version, [record.originator_version for record in records]) == (6, [7])
    async with working(store) as restarted:
        (state,) = await restarted.writer.read(["account-ann"])
        assert state == Purse(7, set("1234567"))


async def test_of_one_batch_each_consumer_gets_its_own_last_delivery(desk: Desk) -> None:
    one, other = Acknowledgements("one"), Acknowledgements("other")
    desk.deliver(issued("ann"), one, 1, key="c1")
    theirs = desk.deliver(issued("bob"), other, 1, key="c2")
    last = desk.deliver(issued("ann"), one, 2, key="c3")
    await desk.writer.drained()

    assert (one.acknowledged, other.acknowledged) == ([last], [theirs])
