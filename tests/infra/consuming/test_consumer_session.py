"""A session with two consumers on a real broker: each acknowledges its own, and both share the retry queue."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo
from nats.js.errors import NotFoundError

from contracts import Fact
from contracts.wire import MSG_ID
from infra.broker.consumers import ConsumerPlace, consumer_names, ensure_consumer
from infra.broker.errors import ConsumerFailed
from infra.broker.numbering import EVENTS
from infra.broker.truncation import ReceivedPositions
from infra.consuming.consumer_session import IDLE_LOOKS, ConsumerSession
from infra.consuming.dead_letters import DeadLetters
from infra.core.messages import Acknowledger, Delivery
from infra.settings import Settings
from tests.infra.broker.mirroring import client, session
from tests.shop import PATIENCE_S, Shop, attempts

CANCELED, USED = "product-hears-order-canceled", "product-hears-point-used"
NAMES = consumer_names("product", ["order.canceled", "point.used"])
NEVER_S = 3_600.0  # no redelivery comes by itself


class Handler:
    """Takes deliveries, and lets the retry queue handle them at the gate."""

    def __init__(self) -> None:
        self.taken: list[tuple[Delivery, Acknowledger]] = []
        self.gate = asyncio.Event()
        self.retried: list[str] = []

    def handle(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        self.taken.append((delivery, acknowledger))

    async def attempt(self, delivery: Delivery) -> Sequence[Fact]:
        await self.gate.wait()
        self.retried.append(delivery.subject)
        return ()

    async def preview(self, messages: Sequence[Delivery]) -> list[Sequence[Fact] | Exception]:
        raise AssertionError("no operator asks")

    async def of(self, consumer: str, messages: int) -> list[tuple[Delivery, Acknowledger]]:
        async for _ in attempts(f"{messages} deliveries of {consumer}"):
            found = [one for one in self.taken if one[1].name == consumer]
            if len(found) >= messages:
                return found
        raise AssertionError


class Running:
    def __init__(self, js: JetStreamContext) -> None:
        self.js = js
        self.handler = Handler()
        self.received = {ConsumerPlace(EVENTS, name): ReceivedPositions() for name in NAMES}
        dead_letters = DeadLetters("product", Settings(port=1))
        self.session = ConsumerSession(
            "product", client(js), self.handler, self.received, dead_letters, pauses_s=(0.0,)
        )

    async def begin(self) -> None:
        for name, fact in NAMES.items():
            place = ConsumerPlace(EVENTS, name)
            await ensure_consumer(self.js, place, fact, 5, session=self.session.name, ack_wait_s=NEVER_S)
        self.run = asyncio.create_task(self.session.run())

    async def look_at_all(self) -> None:
        """Of retired consumers a session looks at one at a time."""
        for _ in NAMES:
            await self.session.look(self.js, sealed=[EVENTS])

    async def asked_about(self, looks: int) -> list[str]:
        """Which consumers the broker is asked about in so many looks."""
        asked: list[str] = []
        js = self.js

        class Counting:
            async def consumer_info(self, stream: str, name: str) -> ConsumerInfo:
                asked.append(name)
                found: ConsumerInfo = await js.consumer_info(stream, name)
                return found

        for _ in range(looks):
            await self.session.look(cast(JetStreamContext, Counting()))
        return asked

    async def floors(self) -> list[int | None]:
        found = [(await self.js.consumer_info(EVENTS, name)).ack_floor for name in NAMES]
        return [floor.stream_seq for floor in found if floor is not None]

    async def until_floors(self, *wanted: int) -> None:
        async for _ in attempts(f"the floors {wanted}"):
            if await self.floors() == list(wanted):
                return


@pytest.fixture
async def running(broker: Shop) -> AsyncIterator[Running]:
    """Five messages: 1 and 4 are cancels, 2, 3 and 5 are used points; 4 and 5 are about the same order."""
    async with session(broker) as js:
        said = ("order.canceled.a", "point.used.b", "point.used.c", "order.canceled.d", "point.used.d")
        for n, subject in enumerate(said):
            await js.publish(subject, b"{}", headers={MSG_ID: f"order-{n}@1"})
        opened = Running(js)
        await opened.begin()
        try:
            yield opened
        finally:
            opened.session.close()
            opened.run.cancel()
            await asyncio.gather(opened.run, return_exceptions=True)


async def test_each_consumer_acknowledges_what_is_handled_of_its_own(running: Running) -> None:
    canceled, used = await running.handler.of(CANCELED, 2), await running.handler.of(USED, 3)
    assert [delivery.position.sequence for delivery, _ in canceled] == [1, 4]
    assert [delivery.position.sequence for delivery, _ in used] == [2, 3, 5]

    delivery, acknowledger = used[1]
    acknowledger.handled(delivery)
    await running.until_floors(0, 3)
    delivery, acknowledger = canceled[1]
    acknowledger.handled(delivery)
    await running.until_floors(4, 3)

    assert {one.place.name: one.acknowledged for one in running.session.consumers} == {CANCELED: 4, USED: 3}


async def test_what_comes_later_about_an_order_waits_whichever_consumer_delivers_it(running: Running) -> None:
    (_, cancel), used = await running.handler.of(CANCELED, 2), await running.handler.of(USED, 3)
    cancel[1].rejected(cancel[0], ValueError("a bug"))

    assert not used[1][1].defers(used[1][0])
    assert used[2][1].defers(used[2][0])
    used[2][1].handled(used[2][0])  # what was taken back stays unacknowledged
    cancel[1].handled(cancel[0])

    running.handler.gate.set()
    await running.until_floors(4, 5)
    assert running.handler.retried == ["order.canceled.d", "point.used.d"]


async def test_an_error_of_one_consumer_ends_the_session_for_all(running: Running) -> None:
    await running.handler.of(CANCELED, 2)
    await running.js.delete_consumer(EVENTS, USED)

    with pytest.raises(ConsumerFailed, match="Consumer Deleted"):
        async with asyncio.timeout(PATIENCE_S):
            await running.run

    assert all(consumer.closed for consumer in running.session.consumers)


async def test_the_broker_is_seldom_asked_about_idle_consumers(running: Running) -> None:
    deliveries = (await running.handler.of(CANCELED, 2), await running.handler.of(USED, 3))
    assert sorted(await running.asked_about(2)) == sorted([CANCELED, USED] * 2), "something is unacknowledged"
    for one in deliveries:
        delivery, acknowledger = one[-1]
        acknowledger.handled(delivery)
    await running.until_floors(4, 5)
    await running.asked_about(1)

    assert sorted(await running.asked_about(2 * IDLE_LOOKS)) == sorted([CANCELED, USED] * 2)

    await running.js.publish("point.used.e", b"{}", headers={MSG_ID: "order-9@1"})
    await running.handler.of(USED, 4)
    busy = [name for name in await running.asked_about(IDLE_LOOKS) if name == USED]
    assert len(busy) == IDLE_LOOKS


async def test_the_paused_consumer_is_named_among_the_others(running: Running) -> None:
    assert running.session.paused is None
    await running.js.pause_consumer(EVENTS, USED, "2099-01-01T00:00:00Z")

    await running.session.look(running.js)

    assert running.session.paused is not None
    assert f"nats consumer resume EVENTS {USED}" in running.session.paused


async def test_a_paused_consumer_that_is_retired_makes_nobody_wait(running: Running) -> None:
    deliveries = (await running.handler.of(CANCELED, 2), await running.handler.of(USED, 3))
    await running.js.pause_consumer(EVENTS, USED, "2099-01-01T00:00:00Z")
    for one in deliveries:
        delivery, acknowledger = one[-1]
        acknowledger.handled(delivery)
    await running.until_floors(4, 5)

    await running.look_at_all()

    assert [consumer.retired for consumer in running.session.consumers] == [True, True]
    assert running.session.paused is None


async def test_a_retired_consumer_that_is_to_deliver_again_ends_the_session(running: Running) -> None:
    """Its generation takes nothing more, and all of it was acknowledged; then somebody reset it."""
    for deliveries in (await running.handler.of(CANCELED, 2), await running.handler.of(USED, 3)):
        delivery, acknowledger = deliveries[-1]
        acknowledger.handled(delivery)
    await running.until_floors(4, 5)
    await running.look_at_all()
    assert [consumer.retired for consumer in running.session.consumers] == [True, True]
    await running.js.reset_consumer(EVENTS, USED, 3)

    with pytest.raises(ConsumerFailed, match="has acknowledged messages to deliver again"):
        await running.look_at_all()


async def test_retired_consumers_leave_the_broker_with_their_generation_and_the_session_goes_on(
    running: Running,
) -> None:
    """It may be deleted between a look at the generations, by which it is `sealed`, and the look at its consumers."""
    for deliveries in (await running.handler.of(CANCELED, 2), await running.handler.of(USED, 3)):
        delivery, acknowledger = deliveries[-1]
        acknowledger.handled(delivery)
    await running.until_floors(4, 5)
    await running.look_at_all()

    await running.js.delete_stream(EVENTS)

    await running.look_at_all()
    await running.session.look(running.js, sealed=[])
    assert not running.run.done()


async def test_a_consumer_that_is_not_retired_ends_the_session_with_its_generation(running: Running) -> None:
    await running.js.delete_stream(EVENTS)

    with pytest.raises(NotFoundError):
        await running.session.look(running.js)


async def test_finishing_acknowledges_what_each_consumer_delivered_and_was_recorded(running: Running) -> None:
    taken = [*await running.handler.of(CANCELED, 2), *await running.handler.of(USED, 3)]

    async def drained() -> None:
        for delivery, acknowledger in taken:
            acknowledger.handled(delivery)

    await running.session.finish(drained())

    await running.until_floors(4, 5)
    assert not running.run.done()  # the session goes on: its relay has facts to publish


async def test_an_error_before_there_are_consumers_ends_the_session(broker: Shop) -> None:
    async with session(broker) as js:
        dead_letters = DeadLetters("product", Settings(port=1))
        begun = ConsumerSession("product", client(js), Handler(), {}, dead_letters)
        begun.failed(ConsumerFailed("another one took over"))
        begun.add({ConsumerPlace(EVENTS, USED): ReceivedPositions()})

        with pytest.raises(ConsumerFailed, match="another one took over"):
            await begun.run()
