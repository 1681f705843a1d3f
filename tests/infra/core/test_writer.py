"""The one writer: what has arrived is decided together, recorded once, and only then seen, answered, acknowledged."""

import asyncio

import msgspec
import pytest

from contracts import PointCharged
from contracts.wire import encode
from infra.core import state_cache as heads
from infra.core import writer
from infra.core.errors import Busy
from infra.core.messages import Delivery, StreamPosition
from infra.core.state_cache import snapshot_topic
from tests.infra.purse import AGGREGATES, NOON, Ears, NothingToCharge, Purse, WatchedStore, balances, issued
from tests.infra.writing import Desk, Gate, working
from tests.shop import PATIENCE_S


def charged(user: str, amount: int, key: str, cause: str | None = None) -> PointCharged:
    return PointCharged(at=NOON, cause=cause, user_id=user, amount=amount, idempotency_key=key)


# Requests -------------------------------------------------------------------------------------------------------------


async def test_an_answer_has_the_facts_and_the_states_after_them(desk: Desk) -> None:
    await desk.charge("ben", amount=2, key="alone")

    answer = await desk.charge("ben", "ann", amount=5)

    assert answer.facts == [charged("ben", 5, "first"), charged("ann", 5, "first")]
    assert balances(answer.states) == [7, 5]
    assert await desk.log() == [("account-ben", 1), ("account-ben", 2), ("account-ann", 1)]


async def test_what_is_asked_twice_is_recorded_once(desk: Desk) -> None:
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


async def test_nothing_is_seen_answered_or_told_before_it_is_recorded(desk: Desk) -> None:
    gate = Gate(desk.store)
    asking = desk.asking("ann", amount=5)
    await gate.reached.wait()

    assert await desk.balance("ann") == 0
    assert not asking.done()
    assert desk.told == []

    gate.opened.set()
    await asking
    assert await desk.balance("ann") == 5
    assert desk.told == [charged("ann", 5, "first")]


async def test_those_who_follow_the_log_are_told_before_anybody_is_answered(store: WatchedStore) -> None:
    events: list[str] = []
    desk = Desk(store)
    desk.writer = writer.Writer(AGGREGATES, {}, store, lambda: NOON, lambda _: events.append("told"))
    run = asyncio.create_task(desk.writer.run())
    asking = desk.asking("ann")
    asking.add_done_callback(lambda _: events.append("answered"))
    await asking
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)

    assert events == ["told", "answered"]


async def test_requests_that_arrive_during_a_commit_share_the_next_one(desk: Desk) -> None:
    gate = Gate(desk.store)
    first = desk.asking("ann")
    await gate.reached.wait()
    waiting = [desk.asking("ben", key=str(n)) for n in range(20)]
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(first, *waiting)

    assert [len(append) for append in desk.store.appends] == [1, 20]


async def some_turns() -> None:
    """More than the writer needs to begin with what waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_few_that_come_soon_after_a_commit_wait_for_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PACE_S", 1.0)
    await desk.charge("ann")
    soon = desk.asking("ben")
    await some_turns()
    await asyncio.gather(soon, desk.charge("cal"))

    assert desk.store.appends == [["account-ann"], ["account-ben", "account-cal"]]


async def test_who_comes_alone_or_with_many_does_not_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PACE_S", 3_600)
    monkeypatch.setattr(writer, "FEW", 3)
    async with asyncio.timeout(PATIENCE_S):
        await desk.charge("ann")
        await asyncio.gather(*(desk.charge(user) for user in ("ben", "cal", "dan")))

    assert desk.store.appends == [["account-ann"], ["account-ben", "account-cal", "account-dan"]]


async def test_a_batch_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_BATCH", 8)

    await asyncio.gather(*(desk.charge("ann", key=str(n)) for n in range(20)))

    assert [len(append) for append in desk.store.appends] == [8, 8, 4]


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


async def test_too_many_waiting_requests_are_turned_away_and_recorded_never(
    store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING_REQUESTS", 2)
    desk = Desk(store)  # nobody is writing yet
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


async def test_what_is_heard_is_decided_with_its_fact_id_as_the_cause(desk: Desk) -> None:
    acknowledger = Ears()

    delivery = desk.hear(issued("ann", 5, "c7"), acknowledger)
    await acknowledger.news.wait()

    assert desk.told == [charged("ann", 5, "c7", cause="coupon-c1@1")]
    assert acknowledger.done_with == [delivery]


async def test_deliveries_and_requests_share_one_commit_and_one_acknowledgement(desk: Desk) -> None:
    acknowledger = Ears()
    last = [desk.hear(issued("ann", coupon=f"c{n}"), acknowledger, n) for n in range(1, 6)][-1]

    await desk.charge("ben")

    assert desk.store.appends == [["account-ann"] * 5 + ["account-ben"]]
    assert acknowledger.done_with == [last]


async def test_a_delivery_is_not_done_before_it_is_recorded(desk: Desk) -> None:
    gate, acknowledger = Gate(desk.store), Ears()
    desk.hear(issued("ann"), acknowledger)
    await gate.reached.wait()
    assert acknowledger.done_with == []

    gate.opened.set()
    await acknowledger.news.wait()

    assert await desk.log() == [("account-ann", 1)]


async def test_a_fact_heard_twice_is_done_twice_and_recorded_once(desk: Desk) -> None:
    acknowledger = Ears()
    first = desk.hear(issued("ann"), acknowledger, 1)
    await desk.writer.drained()
    second = desk.hear(issued("ann"), acknowledger, 2)
    await desk.writer.drained()

    assert acknowledger.done_with == [first, second]
    assert await desk.log() == [("account-ann", 1)]


async def test_a_fact_that_nobody_reacts_to_is_done_and_nothing_else(desk: Desk) -> None:
    acknowledger = Ears()

    delivery = desk.hear(charged("ann", 1, "k"), acknowledger)
    await desk.writer.drained()

    assert acknowledger.done_with == [delivery]
    assert desk.store.appends == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"not JSON", id="not JSON"),
        pytest.param(b'{"type":"coupon.melted","at":"2026-03-01T09:30:00Z"}', id="a fact that does not exist"),
        pytest.param(b'{"type":"coupon.issued","at":"2026-03-01T09:30:00Z"}', id="fields are missing"),
    ],
)
async def test_a_body_that_cannot_be_read_goes_back_and_all_others_go_on(desk: Desk, body: bytes) -> None:
    acknowledger = Ears()
    desk.hear(issued("ann", coupon="c1"), acknowledger, 1)
    poison = desk.hear_body(body, acknowledger, 2, "c2")
    last = desk.hear(issued("ann", coupon="c3"), acknowledger, 3)

    await desk.charge("ben")

    assert [delivery for delivery, _ in acknowledger.refusals] == [poison]
    assert isinstance(acknowledger.refusals[0][1], msgspec.DecodeError)
    assert acknowledger.done_with == [last]
    assert (acknowledger.errors, acknowledger.closed) == ([], False)
    assert await desk.log() == [("account-ann", 1), ("account-ann", 2), ("account-ben", 1)]


async def test_what_comes_behind_one_of_its_key_that_cannot_be_handled_is_not_decided(desk: Desk) -> None:
    acknowledger = Ears()
    before = desk.hear(issued("ann", coupon="c1"), acknowledger, 1, "k")
    poison = desk.hear_body(b"{", acknowledger, 2, "k")
    behind = desk.hear(issued("ben", coupon="c1"), acknowledger, 3, "k")
    desk.hear(issued("cas", coupon="c1"), acknowledger, 4, "another")
    await desk.writer.drained()
    later = desk.hear(issued("dan", coupon="c1"), acknowledger, 5, "k")
    await desk.writer.drained()

    assert [delivery for delivery, _ in acknowledger.refusals] == [poison]
    assert acknowledger.taken_back == [behind, later]
    assert before not in acknowledger.taken_back
    assert await desk.log() == [("account-ann", 1), ("account-cas", 1)]


async def test_a_decision_that_fails_goes_back_and_leaves_nothing_in_the_batch(desk: Desk) -> None:
    acknowledger = Ears()
    refused = desk.hear(issued("ann", discount=0), acknowledger)

    await desk.charge("ben")

    assert [(delivery, type(error)) for delivery, error in acknowledger.refusals] == [(refused, NothingToCharge)]
    assert await desk.log() == [("account-ben", 1)]


async def test_an_attempt_of_one_that_waited_says_what_was_recorded_or_what_is_in_its_way(desk: Desk) -> None:
    acknowledger = Ears()
    good, bad = (
        Delivery("c@1", body, "", StreamPosition(1, 1), "coupon.issued.c1") for body in (encode(issued("ann")), b"{")
    )

    assert await desk.writer.attempt(good) == [charged("ann", 1, "c1", "c@1")]
    assert await desk.writer.attempt(good) == []
    with pytest.raises(msgspec.DecodeError):
        await desk.writer.attempt(bad)

    assert await desk.log() == [("account-ann", 1)]
    assert acknowledger.done_with == []


async def test_a_preview_decides_one_after_another_and_records_nothing(desk: Desk) -> None:
    bodies = [encode(issued("ann", 5, "c1")), encode(issued("ann", 5, "c1")), b"{", encode(issued("ben"))]
    waiting = [Delivery(f"c@{n}", body, "", StreamPosition(n, n), "coupon.issued.c1") for n, body in enumerate(bodies)]

    outcomes = await desk.writer.preview(waiting)

    assert outcomes[:2] == [[charged("ann", 5, "c1", "c@0")], []]
    assert [type(outcome) for outcome in outcomes[2:]] == [msgspec.DecodeError]
    assert await desk.log() == []
    assert await desk.balance("ann") == 0


async def test_deliveries_to_an_ear_that_has_closed_are_left_for_their_redelivery(desk: Desk) -> None:
    acknowledger = Ears()
    desk.hear(issued("ann"), acknowledger)
    acknowledger.closed = True

    await desk.charge("ben")

    assert (acknowledger.done_with, acknowledger.errors) == ([], [])
    assert await desk.log() == [("account-ben", 1)]


# Snapshots ------------------------------------------------------------------------------------------------------------


async def test_snapshots_are_kept_and_folded_from(store: WatchedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "SNAPSHOT_EVERY", 3)
    topic = snapshot_topic("account", AGGREGATES["account"])
    async with working(store) as desk:
        for n in range(1, 8):
            await desk.charge("ann", key=str(n))

    snapshot, records = (await store.inner.select_streams(["account-ann"], [topic]))["account-ann"]
    assert snapshot is not None
    assert (snapshot.originator_version, [record.originator_version for record in records]) == (6, [7])
    async with working(store) as restarted:
        (state,) = await restarted.writer.read(["account-ann"])
        assert state == Purse(7, set("1234567"))
