"""A consumer session on a real broker: in order, acknowledged together once recorded, and never across a gap."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo

from contracts import Fact
from contracts.wire import MSG_ID
from infra.broker.consumers import MAX_ACK_PENDING, ConsumerPlace, ensure_consumer
from infra.broker.errors import ConsumerFailed
from infra.broker.numbering import EVENTS
from infra.broker.pull import PULL_EXPIRES_S, SILENCE_S
from infra.broker.truncation import ReceivedPositions
from infra.consuming.consumer import PULL_BATCH
from infra.consuming.consumer_session import ConsumerSession
from infra.consuming.dead_letters import DeadLetters
from infra.core.messages import Acknowledger, Delivery
from infra.settings import Settings
from tests.infra.broker.mirroring import client, session
from tests.shop import PATIENCE_S, Shop, attempts

NEVER_S = 3_600.0  # no redelivery comes by itself
HEARS = "order.canceled"
NAME = "product-hears-order-canceled"
PLACE = ConsumerPlace(EVENTS, NAME)
DEAD_LETTERS = DeadLetters("product", Settings(port=1))


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

    async def attempt(self, delivery: Delivery) -> Sequence[Fact]:
        raise AssertionError("nothing is rejected here")

    async def preview(self, messages: Sequence[Delivery]) -> list[Sequence[Fact] | Exception]:
        raise AssertionError("no operator asks")

    async def drained(self) -> None:
        await self.recorded.wait()

    async def has(self, messages: int) -> list[Delivery]:
        async for _ in attempts(f"{messages} deliveries"):
            if len(self.taken) >= messages:
                return self.taken
        raise AssertionError


def consumer_session(js: JetStreamContext, handler: Handler, **limits: float) -> ConsumerSession:
    return ConsumerSession(
        "product",
        client(js),
        handler,
        {PLACE: ReceivedPositions()},
        DEAD_LETTERS,
        expires_s=limits.get("expires_s", PULL_EXPIRES_S),
        silence_s=limits.get("silence_s", SILENCE_S),
    )


class Session:
    """One session of a consumer at work."""

    def __init__(self, js: JetStreamContext, handler: Handler, **limits: float) -> None:
        self.js = js
        self.handler = handler
        self.session = consumer_session(js, handler, **limits)
        (self.consumer,) = self.session.consumers

    async def begin(self) -> None:
        last = (await self.js.stream_info(EVENTS)).state.last_seq
        await ensure_consumer(self.js, PLACE, HEARS, last, session=self.session.name, ack_wait_s=NEVER_S)
        self.run = asyncio.create_task(self.session.run())

    async def failed(self) -> BaseException | None:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([self.run])
        return self.run.exception()

    async def info(self) -> ConsumerInfo:
        found: ConsumerInfo = await self.js.consumer_info(EVENTS, NAME)
        return found

    async def acknowledged(self, sequence: int) -> None:
        """Returns when the consumer knows that all up to here is recorded."""
        async for _ in attempts(f"{sequence} to be acknowledged"):
            floor = (await self.info()).ack_floor
            assert floor is not None
            if floor.stream_seq == sequence:
                return


@contextlib.asynccontextmanager
async def consuming(broker: Shop, **limits: float) -> AsyncIterator[Session]:
    """As in the service: a fresh connection, the consumer ensured, then its session."""
    async with session(broker) as js:
        opened = Session(js, Handler(), **limits)
        await opened.begin()
        try:
            yield opened
        finally:
            opened.run.cancel()
            await asyncio.gather(opened.run, return_exceptions=True)


async def say(broker: Shop, first: int, last: int) -> None:
    async with session(broker) as js:
        for n in range(first, last + 1):
            await js.publish(f"order.canceled.o{n}", b"%d" % n, headers={MSG_ID: f"order-o{n}@2"})


def numbers(taken: list[Delivery]) -> list[int]:
    return [int(delivery.body) for delivery in taken]


async def test_deliveries_are_taken_in_order_with_their_fact_ids(broker: Shop) -> None:
    await say(broker, 1, 3)
    async with consuming(broker) as opened:
        await say(broker, 4, 5)
        taken = await opened.handler.has(5)

    assert [(one.fact_id, one.body) for one in taken] == [(f"order-o{n}@2", b"%d" % n) for n in range(1, 6)]


async def test_nothing_is_acknowledged_before_it_is_done(broker: Shop) -> None:
    await say(broker, 1, 5)
    async with consuming(broker) as opened:
        taken = await opened.handler.has(5)
        assert (await opened.info()).num_ack_pending == 5

        opened.consumer.handled(taken[2])
        await opened.acknowledged(3)

        assert (await opened.info()).num_ack_pending == 2


async def test_a_late_acknowledgement_that_jams_the_consumer_is_seen_and_the_next_session_heals_it(
    broker: Shop,
) -> None:
    """Of a session that saw many redeliveries: its delivery number is beyond all that this one can reach."""
    await say(broker, 1, 5)
    async with consuming(broker) as opened:
        await opened.handler.has(5)
        await client(opened.js).publish(f"$JS.ACK.EVENTS.{NAME}.7.2.5000.1.0", b"+ACK")
        await opened.acknowledged(2)

        with pytest.raises(ConsumerFailed, match="came after it: it is reset again"):
            await opened.consumer.look(opened.js)

    async with consuming(broker) as again:
        taken = await again.handler.has(3)
        assert numbers(taken) == [3, 4, 5]
        await again.consumer.look(again.js)
        again.consumer.handled(taken[-1])
        await again.acknowledged(5)


async def test_a_session_that_misses_the_notice_of_another_one_finds_out_at_its_next_look(broker: Shop) -> None:
    await say(broker, 1, 5)
    async with consuming(broker) as opened:
        taken = await opened.handler.has(5)
        opened.consumer.handled(taken[1])
        await opened.acknowledged(2)
        await opened.consumer.look(opened.js)
        opened.consumer.handled(taken[2])
        await opened.acknowledged(3)
        await ensure_consumer(opened.js, PLACE, HEARS, 5, session="another", ack_wait_s=NEVER_S)

        with pytest.raises(ConsumerFailed, match="another session took over this consumer"):
            await opened.consumer.look(opened.js)

        assert (opened.consumer.acknowledged, opened.consumer.confirmed) == (3, 2)


async def test_one_acknowledgement_covers_all_deliveries_before_it(broker: Shop) -> None:
    await say(broker, 1, 40)
    async with consuming(broker) as opened:
        taken = await opened.handler.has(40)

        opened.consumer.handled(taken[-1])
        await opened.acknowledged(40)

        assert (await opened.info()).num_ack_pending == 0


async def test_the_next_session_hears_at_once_what_this_one_had_in_hand(broker: Shop) -> None:
    await say(broker, 1, 5)
    async with consuming(broker) as first:
        taken = await first.handler.has(5)
        first.consumer.handled(taken[1])
        await first.acknowledged(2)

    async with consuming(broker) as second:
        assert numbers(await second.handler.has(3)) == [3, 4, 5]


async def test_more_messages_than_one_pull_asks_for_all_come(broker: Shop) -> None:
    messages = MAX_ACK_PENDING + PULL_BATCH // 2
    await say(broker, 1, messages)
    async with consuming(broker) as opened:
        opened.handler.at_once = True
        taken = await opened.handler.has(messages)
        await opened.acknowledged(messages)

    assert numbers(taken) == list(range(1, messages + 1))


async def test_pulls_that_ran_out_are_followed_by_others(broker: Shop) -> None:
    async with consuming(broker, expires_s=0.05) as opened:
        for n in range(1, 4):
            before = opened.js._nc.stats["in_msgs"]
            async for _ in attempts("a pull to run out"):  # the server says so: 408
                if opened.js._nc.stats["in_msgs"] > before:
                    break
            await say(broker, n, n)
            await opened.handler.has(n)

        assert not opened.run.done()


@contextlib.asynccontextmanager
async def dead_session(broker: Shop) -> AsyncIterator[Subscription]:
    """A session that is gone, though the broker still believes in it, and that has asked for one more message."""
    async with broker.broker() as nc:
        inbox = nc.new_inbox()
        subscription = await nc.subscribe(inbox)
        await nc.publish(f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}.{NAME}", b'{"batch":1}', inbox)
        await nc.flush()
        yield subscription


async def test_a_gap_between_deliveries_fails_the_session_and_nothing_of_it_is_acknowledged(broker: Shop) -> None:
    await say(broker, 1, 3)
    async with consuming(broker) as opened:
        opened.consumer.handled((await opened.handler.has(3))[0])
        await opened.acknowledged(1)
        opened.handler.at_once = True
        async with dead_session(broker) as dead:
            await say(broker, 4, 6)
            missed = int((await dead.next_msg(timeout=PATIENCE_S)).data)
        error = await opened.failed()

        assert isinstance(error, ConsumerFailed)
        assert str(error).startswith(f"delivery {missed + 1} came after {missed - 1}")
        assert opened.consumer.closed
        assert numbers(opened.handler.taken) == list(range(1, missed))

    async with consuming(broker) as again:
        again.handler.at_once = True
        async for _ in attempts("the rest"):
            if again.handler.taken and numbers(again.handler.taken)[-1] == 6:
                break
        assert missed in numbers(again.handler.taken)


async def test_a_first_delivery_that_went_to_a_dead_session_is_a_gap_too(broker: Shop) -> None:
    async with session(broker) as js:
        await ensure_consumer(js, PLACE, HEARS, 0, ack_wait_s=NEVER_S)
        async with dead_session(broker) as dead:
            await say(broker, 1, 3)
            assert (await dead.next_msg(timeout=PATIENCE_S)).data == b"1"
        opened = Session(js, Handler())
        opened.run = asyncio.create_task(opened.session.run())

        error = await opened.failed()

        assert isinstance(error, ConsumerFailed)
        assert "delivery 2 came after 0" in str(error)
        assert opened.handler.taken == []

    async with consuming(broker) as opened:
        assert numbers(await opened.handler.has(3)) == [1, 2, 3]


async def test_a_consumer_that_was_deleted_fails_the_session(broker: Shop) -> None:
    async with consuming(broker) as opened:
        await say(broker, 1, 1)
        await opened.handler.has(1)
        await opened.js.delete_consumer(EVENTS, NAME)

        error = await opened.failed()

    assert isinstance(error, ConsumerFailed)
    assert "Consumer Deleted" in str(error)


async def test_a_broker_that_falls_silent_fails_the_session(broker: Shop) -> None:
    async with consuming(broker, silence_s=0.2) as opened:
        error = await opened.failed()

    assert isinstance(error, ConsumerFailed)
    assert "silent" in str(error)


async def test_what_the_writer_met_ends_the_session(broker: Shop) -> None:
    async with consuming(broker) as opened:
        opened.consumer.failed(ValueError("poison"))
        opened.consumer.failed(ValueError("a consequence"))

        error = await opened.failed()

    assert str(error) == "poison"


async def test_a_failed_session_takes_nothing_more(broker: Shop) -> None:
    await say(broker, 1, 1)
    async with consuming(broker) as opened:
        await opened.handler.has(1)
        opened.consumer.failed(ValueError("poison"))
        await opened.failed()
        await say(broker, 2, 4)
        async for _ in attempts("the deliveries to be on their way"):
            if (await opened.info()).num_ack_pending == 4:
                break
        await opened.js._nc.flush()

    assert numbers(opened.handler.taken) == [1]


async def test_finishing_takes_no_more_and_acknowledges_what_is_recorded(broker: Shop) -> None:
    await say(broker, 1, 3)
    async with consuming(broker) as opened:
        taken = await opened.handler.has(3)
        finishing = asyncio.create_task(opened.session.finish(opened.handler.drained()))
        await asyncio.sleep(0)
        await say(broker, 4, 6)
        async for _ in attempts("more deliveries to arrive"):
            if (await opened.info()).num_ack_pending == 6:
                break
        assert not finishing.done()

        opened.consumer.handled(taken[-1])
        opened.handler.recorded.set()
        await finishing
        await opened.acknowledged(3)

        assert len(opened.handler.taken) == 3

    async with consuming(broker) as restarted:
        assert numbers(await restarted.handler.has(3)) == [4, 5, 6]


async def test_a_session_learns_that_another_one_took_over_before_deliveries_are_counted_anew(broker: Shop) -> None:
    await say(broker, 1, 1)
    async with consuming(broker) as first:
        await first.session.take_over()
        first.handler.at_once = True
        first.consumer.handled((await first.handler.has(1))[0])
        await first.acknowledged(1)

        async with session(broker) as js, dead_session(broker):
            second = consumer_session(js, Handler())
            await second.take_over()
            await ensure_consumer(js, PLACE, HEARS, 1, ack_wait_s=NEVER_S)
            await say(broker, 2, 4)  # the first could take delivery 2 for its own next one
            error = await first.failed()

            assert isinstance(error, ConsumerFailed)
            assert str(error) == "another session took over this consumer: is a second process running?"
            assert numbers(first.handler.taken) == [1]
            assert not second.consumers[0].closed
    async with consuming(broker) as third:
        assert numbers(await third.handler.has(3)) == [2, 3, 4]
