"""Hearing on a real broker: taken in order, acknowledged together once recorded, and never across a gap."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo

from contracts import Fact
from contracts.wire import MSG_ID
from infra.broker import consumers as stream
from infra.broker.consumers import MAX_ACK_PENDING, ensure_consumer
from infra.broker.errors import ConsumerFailed
from infra.broker.streams import EVENTS
from infra.broker.truncation import ReceivedPositions
from infra.consuming import consumer as module
from infra.consuming.consumer import PULL_BATCH, ConsumerSession
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.retry_queue import FailureHandling
from infra.core.messages import Acknowledger, Delivery
from infra.core.writer import Writer
from infra.settings import Settings
from tests.infra.broker.mirroring import client, session
from tests.shop import PATIENCE_S, Shop, attempts

HEARS = frozenset({"order.canceled"})
LETTERS = DeadLetters("product", Settings(port=1))


async def attempt(_: Delivery) -> Sequence[Fact]:
    raise AssertionError("nothing is refused here")


async def preview(_: Sequence[Delivery]) -> list[Sequence[Fact] | Exception]:
    raise AssertionError("nobody asks")


HANDLING = FailureHandling(LETTERS, attempt, preview)


class Handler:
    """A writer that only takes; the test says when what it took is recorded."""

    def __init__(self) -> None:
        self.taken: list[Delivery] = []
        self.recorded = asyncio.Event()
        self.at_once = False

    def handle(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        self.taken.append(delivery)
        if self.at_once:
            acknowledger.handled(delivery)

    async def drained(self) -> None:
        await self.recorded.wait()

    async def has(self, messages: int) -> list[Delivery]:
        async for _ in attempts(f"{messages} deliveries"):
            if len(self.taken) >= messages:
                return self.taken
        raise AssertionError


class Session:
    """One session's hearing at work."""

    def __init__(self, js: JetStreamContext, handler: Handler) -> None:
        self.js = js
        self.handler = handler
        self.hearing = ConsumerSession("product", client(js), cast(Writer, handler), ReceivedPositions(), HANDLING)
        self.run = asyncio.create_task(self.hearing.run())

    async def failed(self) -> BaseException | None:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([self.run])
        return self.run.exception()

    async def info(self) -> ConsumerInfo:
        found: ConsumerInfo = await self.js.consumer_info(EVENTS, "product")
        return found

    async def acknowledged(self, sequence: int) -> None:
        """Returns when the consumer knows that all up to here is recorded."""
        async for _ in attempts(f"{sequence} to be acknowledged"):
            floor = (await self.info()).ack_floor
            assert floor is not None
            if floor.stream_seq == sequence:
                return


@contextlib.asynccontextmanager
async def hearing(broker: Shop) -> AsyncIterator[Session]:
    """As in the service: a fresh connection, the consumer ensured, then hearing."""
    async with session(broker) as js:
        info = await js.stream_info(EVENTS)
        await ensure_consumer(js, "product", HEARS, info.state.last_seq)
        opened = Session(js, Handler())
        try:
            yield opened
        finally:
            opened.run.cancel()
            await asyncio.gather(opened.run, return_exceptions=True)


@pytest.fixture(autouse=True)
def no_redelivery_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ACK_WAIT_S", 3_600.0)


async def say(broker: Shop, first: int, last: int) -> None:
    async with session(broker) as js:
        for n in range(first, last + 1):
            await js.publish(f"order.canceled.o{n}", b"%d" % n, headers={MSG_ID: f"order-o{n}@2"})


def numbers(taken: list[Delivery]) -> list[int]:
    return [int(delivery.body) for delivery in taken]


async def test_deliveries_are_taken_in_order_with_their_fact_ids(broker: Shop) -> None:
    await say(broker, 1, 3)
    async with hearing(broker) as delivery:
        await say(broker, 4, 5)
        taken = await delivery.handler.has(5)

    assert [(one.fact_id, one.body) for one in taken] == [(f"order-o{n}@2", b"%d" % n) for n in range(1, 6)]


async def test_nothing_is_acknowledged_before_it_is_done(broker: Shop) -> None:
    await say(broker, 1, 5)
    async with hearing(broker) as delivery:
        taken = await delivery.handler.has(5)
        assert (await delivery.info()).num_ack_pending == 5

        delivery.hearing.handled(taken[2])
        await delivery.acknowledged(3)

        assert (await delivery.info()).num_ack_pending == 2


async def test_one_acknowledgement_covers_all_deliveries_before_it(broker: Shop) -> None:
    await say(broker, 1, 40)
    async with hearing(broker) as delivery:
        taken = await delivery.handler.has(40)

        delivery.hearing.handled(taken[-1])
        await delivery.acknowledged(40)

        assert (await delivery.info()).num_ack_pending == 0


async def test_the_next_session_hears_at_once_what_this_one_had_in_hand(broker: Shop) -> None:
    await say(broker, 1, 5)
    async with hearing(broker) as first:
        taken = await first.handler.has(5)
        first.hearing.handled(taken[1])
        await first.acknowledged(2)

    async with hearing(broker) as second:
        assert numbers(await second.handler.has(3)) == [3, 4, 5]


async def test_more_messages_than_one_pull_asks_for_all_come(broker: Shop) -> None:
    messages = MAX_ACK_PENDING + PULL_BATCH // 2
    await say(broker, 1, messages)
    async with hearing(broker) as delivery:
        delivery.handler.at_once = True
        taken = await delivery.handler.has(messages)
        await delivery.acknowledged(messages)

    assert numbers(taken) == list(range(1, messages + 1))


async def test_pulls_that_ran_out_are_followed_by_others(broker: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PULL_EXPIRES_S", 0.05)
    async with hearing(broker) as delivery:
        for n in range(1, 4):
            before = delivery.js._nc.stats["in_msgs"]
            async for _ in attempts("a pull to run out"):  # the server says so: 408
                if delivery.js._nc.stats["in_msgs"] > before:
                    break
            await say(broker, n, n)
            await delivery.handler.has(n)

        assert not delivery.run.done()


@contextlib.asynccontextmanager
async def dead_session(broker: Shop) -> AsyncIterator[Subscription]:
    """A session that is gone, though the broker still believes in it, and that has asked for one more message."""
    async with broker.broker() as nc:
        inbox = nc.new_inbox()
        subscription = await nc.subscribe(inbox)
        await nc.publish(f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}.product", b'{"batch":1}', inbox)
        await nc.flush()
        yield subscription


async def test_a_gap_between_deliveries_fails_the_session_and_nothing_of_it_is_acknowledged(broker: Shop) -> None:
    await say(broker, 1, 3)
    async with hearing(broker) as delivery:
        delivery.hearing.handled((await delivery.handler.has(3))[0])
        await delivery.acknowledged(1)
        delivery.handler.at_once = True
        async with dead_session(broker) as dead:
            await say(broker, 4, 6)
            missed = int((await dead.next_msg(timeout=PATIENCE_S)).data)
        error = await delivery.failed()

        assert isinstance(error, ConsumerFailed)
        assert str(error).startswith(f"delivery {missed + 1} came after {missed - 1}")
        assert delivery.hearing.closed
        assert numbers(delivery.handler.taken) == list(range(1, missed))

    async with hearing(broker) as again:
        again.handler.at_once = True
        async for _ in attempts("the rest"):
            if again.handler.taken and numbers(again.handler.taken)[-1] == 6:
                break
        assert missed in numbers(again.handler.taken)


async def test_a_first_delivery_that_went_to_a_dead_session_is_a_gap_too(broker: Shop) -> None:
    async with session(broker) as js:
        await ensure_consumer(js, "product", HEARS, 0)
        async with dead_session(broker) as dead:
            await say(broker, 1, 3)
            assert (await dead.next_msg(timeout=PATIENCE_S)).data == b"1"
        opened = Session(js, Handler())

        error = await opened.failed()

        assert isinstance(error, ConsumerFailed)
        assert "delivery 2 came after 0" in str(error)
        assert opened.handler.taken == []

    async with hearing(broker) as delivery:
        assert numbers(await delivery.handler.has(3)) == [1, 2, 3]


async def test_a_consumer_that_was_deleted_fails_the_session(broker: Shop) -> None:
    async with hearing(broker) as delivery:
        await say(broker, 1, 1)
        await delivery.handler.has(1)
        await delivery.js.delete_consumer(EVENTS, "product")

        error = await delivery.failed()

    assert isinstance(error, ConsumerFailed)
    assert "Consumer Deleted" in str(error)


async def test_a_broker_that_falls_silent_fails_the_session(broker: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.2)  # long before a pull runs out

    async with hearing(broker) as delivery:
        error = await delivery.failed()

    assert isinstance(error, ConsumerFailed)
    assert "silent" in str(error)


async def test_what_the_writer_met_ends_the_session(broker: Shop) -> None:
    async with hearing(broker) as delivery:
        delivery.hearing.failed(ValueError("poison"))
        delivery.hearing.failed(ValueError("a consequence"))

        error = await delivery.failed()

    assert str(error) == "poison"


async def test_a_failed_session_takes_nothing_more(broker: Shop) -> None:
    await say(broker, 1, 1)
    async with hearing(broker) as delivery:
        await delivery.handler.has(1)
        delivery.hearing.failed(ValueError("poison"))
        await delivery.failed()
        await say(broker, 2, 4)
        async for _ in attempts("the deliveries to be on their way"):
            if (await delivery.info()).num_ack_pending == 4:
                break
        await delivery.js._nc.flush()

    assert numbers(delivery.handler.taken) == [1]


async def test_finishing_takes_no_more_and_acknowledges_what_is_recorded(broker: Shop) -> None:
    await say(broker, 1, 3)
    async with hearing(broker) as delivery:
        taken = await delivery.handler.has(3)
        finishing = asyncio.create_task(delivery.hearing.finish(delivery.handler.drained()))
        await asyncio.sleep(0)
        await say(broker, 4, 6)
        async for _ in attempts("more deliveries to arrive"):
            if (await delivery.info()).num_ack_pending == 6:
                break
        assert not finishing.done()

        delivery.hearing.handled(taken[-1])
        delivery.handler.recorded.set()
        await finishing
        await delivery.acknowledged(3)

        assert len(delivery.handler.taken) == 3

    async with hearing(broker) as restarted:
        assert numbers(await restarted.handler.has(3)) == [4, 5, 6]


async def test_a_session_learns_that_another_one_took_over_before_deliveries_are_counted_anew(broker: Shop) -> None:
    await say(broker, 1, 1)
    async with hearing(broker) as first:
        await first.hearing.take_over()
        first.handler.at_once = True
        first.hearing.handled((await first.handler.has(1))[0])
        await first.acknowledged(1)

        async with session(broker) as js, dead_session(broker):
            second = ConsumerSession("product", client(js), cast(Writer, Handler()), ReceivedPositions(), HANDLING)
            await ensure_consumer(js, "product", HEARS, 1, take_over=second.take_over)
            await say(broker, 2, 4)  # the first could take delivery 2 for its own next one
            error = await first.failed()

            assert isinstance(error, ConsumerFailed)
            assert str(error) == "another session hears this consumer now: does a second process work here?"
            assert numbers(first.handler.taken) == [1]
            assert not second.closed
    async with hearing(broker) as third:
        assert numbers(await third.handler.has(3)) == [2, 3, 4]
