"""A service's durable consumer on a real broker: unacknowledged messages are delivered again at once."""

from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import NotFoundError

from contracts.wire import FACTS as FACTS_BY_NAME
from infra.broker import consumers
from infra.broker.consumers import (
    MAX_ACK_PENDING,
    AcknowledgedPosition,
    ConsumerPlace,
    consumer_names,
)
from infra.broker.numbering import EVENTS
from infra.broker.predecessor import find_predecessor, remove_predecessor
from tests.infra.broker.mirroring import session
from tests.shop import PATIENCE_S, Shop, attempts

NAME = "product-hears-order-canceled"
PLACE = ConsumerPlace(EVENTS, NAME)
HEARS = "order.canceled"

ensure_consumer = partial(consumers.ensure_consumer, ack_wait_s=3_600.0)
"""No redelivery that comes by itself could make a test pass."""


@pytest.fixture
async def js(broker: Shop) -> AsyncIterator[JetStreamContext]:
    async with session(broker) as js:
        yield js


async def say(js: JetStreamContext, *subjects: str) -> None:
    for subject in subjects:
        await js.publish(subject, b"{}")


async def pull(js: JetStreamContext, messages: int, consumer: str = NAME) -> list[Msg]:
    """This many deliveries, not acknowledged."""
    subscription = await js.pull_subscribe_bind(consumer, EVENTS)
    found: list[Msg] = []
    while len(found) < messages:
        found += await subscription.fetch(messages - len(found), timeout=PATIENCE_S)
    return found


async def acknowledge(js: JetStreamContext, message: Msg) -> None:
    """Acknowledge the message, and wait until the consumer knows."""
    await message.ack()
    async for _ in attempts("the acknowledgement to arrive"):
        if (await info(js)).ack_floor.stream_seq == message.metadata.sequence.stream:  # type: ignore[union-attr]
            return


async def info(js: JetStreamContext) -> ConsumerInfo:
    found: ConsumerInfo = await js.consumer_info(EVENTS, NAME)
    return found


def sequences(messages: Sequence[Msg]) -> list[int]:
    return [message.metadata.sequence.stream for message in messages]


async def test_a_missing_consumer_is_made_durable_cumulative_and_without_an_end(js: JetStreamContext) -> None:
    await ensure_consumer(js, PLACE, HEARS, 0)

    config = (await info(js)).config
    assert config.durable_name == NAME
    assert (config.filter_subject, config.filter_subjects) == ("order.canceled.*", None)
    assert (config.deliver_policy, config.ack_policy) == ("all", "all")
    assert (config.max_deliver, config.max_ack_pending) == (-1, MAX_ACK_PENDING)
    assert config.ack_wait == 3_600


async def test_a_new_consumer_hears_what_was_said_before_it_and_only_what_it_reacts_to(js: JetStreamContext) -> None:
    await say(js, "order.created.pending.o1", "point.used.o1", "order.canceled.o1", "order.confirmed.o2")

    await ensure_consumer(js, PLACE, HEARS, 4)

    assert [message.subject for message in await pull(js, 1)] == ["order.canceled.o1"]
    assert (await info(js)).num_pending == 0


async def test_a_new_consumer_takes_nothing_over_from_what_a_power_cut_left_of_another(
    broker: Shop, js: JetStreamContext
) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 4)))
    await ensure_consumer(js, PLACE, HEARS, 3)
    await acknowledge(js, (await pull(js, 2))[1])
    await broker.stop("nats")
    (folder,) = broker.folder.glob(f"nats/**/EVENTS/obs/{NAME}")
    (folder / "meta.inf").unlink()
    assert (folder / "o.dat").exists()
    await broker.start_nats()

    async with session(broker) as after:
        await ensure_consumer(after, PLACE, HEARS, 3)

        assert sequences(await pull(after, 3)) == [1, 2, 3]


async def test_what_a_dead_session_had_in_hand_is_delivered_again_at_once(js: JetStreamContext) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 6)))
    await ensure_consumer(js, PLACE, HEARS, 5)
    in_hand = await pull(js, 5)
    await acknowledge(js, in_hand[1])

    await ensure_consumer(js, PLACE, HEARS, 5)

    assert sequences(await pull(js, 3)) == [3, 4, 5]


async def test_delivery_numbers_begin_at_1_again_so_that_no_gap_goes_unseen(js: JetStreamContext) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 4)))
    await ensure_consumer(js, PLACE, HEARS, 3)
    await acknowledge(js, (await pull(js, 3))[0])

    await ensure_consumer(js, PLACE, HEARS, 3)

    assert [message.metadata.sequence.consumer for message in await pull(js, 2)] == [1, 2]


async def test_a_consumer_with_another_filter_starts_over(js: JetStreamContext) -> None:
    await say(js, "order.canceled.o1", "point.use.failed.o1", "order.canceled.o2")
    await ensure_consumer(js, PLACE, HEARS, 3)
    await acknowledge(js, (await pull(js, 2))[-1])

    await ensure_consumer(js, PLACE, "point.use.failed", 3)

    assert sequences(await pull(js, 1)) == [2]
    assert (await info(js)).config.filter_subject == "point.use.failed.*"


async def test_a_consumer_ahead_of_a_stream_that_lost_its_tail_goes_back_to_the_streams_end(
    js: JetStreamContext,
) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 6)))
    await ensure_consumer(js, PLACE, HEARS, 5)
    await acknowledge(js, (await pull(js, 5))[-1])

    # As if the stream had ended at 3 and the relays had written 4 and 5 again since.
    await ensure_consumer(js, PLACE, HEARS, 3)

    assert sequences(await pull(js, 2)) == [4, 5]


async def test_a_consumer_goes_back_to_where_the_stream_was_lost_and_written_again(js: JetStreamContext) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 8)))
    await ensure_consumer(js, PLACE, HEARS, 7)
    await acknowledge(js, (await pull(js, 7))[-1])

    await ensure_consumer(js, PLACE, HEARS, 7, truncated_after=4)

    assert sequences(await pull(js, 3)) == [5, 6, 7]


async def test_no_unacknowledged_message_before_a_truncation_is_skipped(js: JetStreamContext) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 8)))
    await ensure_consumer(js, PLACE, HEARS, 7)
    await acknowledge(js, (await pull(js, 7))[1])  # the third one waits for another attempt

    await ensure_consumer(js, PLACE, HEARS, 7, truncated_after=4)

    assert sequences(await pull(js, 5)) == [3, 4, 5, 6, 7]


async def test_a_consumer_never_begins_after_what_the_service_has_acknowledged(js: JetStreamContext) -> None:
    """A power cut may bring back the state that the consumer had before it went back."""
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 8)))
    assert await ensure_consumer(js, PLACE, HEARS, 7) == 0
    await acknowledge(js, (await pull(js, 7))[5])

    assert await ensure_consumer(js, PLACE, HEARS, 7, acknowledged=AcknowledgedPosition("", 2, 0)) == 2

    assert sequences(await pull(js, 5)) == [3, 4, 5, 6, 7]
    assert await ensure_consumer(js, PLACE, HEARS, 7, acknowledged=AcknowledgedPosition("", 5, 0)) == 2, (
        "the broker has less"
    )


async def test_a_consumer_that_another_session_had_begins_after_what_was_confirmed_before(js: JetStreamContext) -> None:
    """This process may have taken deliveries to the other session for its own, and acknowledged those before them."""
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 8)))
    await ensure_consumer(js, PLACE, HEARS, 7, session="mine")
    await acknowledge(js, (await pull(js, 7))[5])
    mine = AcknowledgedPosition("mine", until=6, confirmed=2)

    assert await ensure_consumer(js, PLACE, HEARS, 7, session="mine again", acknowledged=mine) == 6
    assert await ensure_consumer(js, PLACE, HEARS, 7, session="another's") == 6

    again = mine._replace(session="mine again")
    assert await ensure_consumer(js, PLACE, HEARS, 7, session="my last", acknowledged=again) == 2
    assert sequences(await pull(js, 5)) == [3, 4, 5, 6, 7]


async def test_a_consumer_that_has_acknowledged_all_hears_nothing_again(js: JetStreamContext) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 6)))
    await ensure_consumer(js, PLACE, HEARS, 5)
    await acknowledge(js, (await pull(js, 5))[-1])

    await ensure_consumer(js, PLACE, HEARS, 5)
    await say(js, "order.canceled.o6")

    assert sequences(await pull(js, 1)) == [6]
    assert (await info(js)).num_pending == 0


async def test_settings_that_may_be_updated_are_updated(js: JetStreamContext) -> None:
    await ensure_consumer(js, PLACE, HEARS, 0)

    await ensure_consumer(js, PLACE, HEARS, 0, max_ack_pending=77)

    assert (await info(js)).config.max_ack_pending == 77


# From one consumer with several filters to one for each fact ----------------------------------------------------------

OLD_FILTERS = ["order.canceled.*", "order.created.pending.*"]


async def of_the_version_before(js: JetStreamContext, acknowledged: int) -> None:
    """The durable consumer `product`, which heard two facts and has acknowledged up to this sequence."""
    config = ConsumerConfig(
        durable_name="product",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.ALL,
        filter_subjects=OLD_FILTERS,
    )
    await js.add_consumer(EVENTS, config)
    if acknowledged:
        await (await pull(js, acknowledged, "product"))[-1].ack()
        async for _ in attempts("the acknowledgement to arrive"):
            floor = (await js.consumer_info(EVENTS, "product")).ack_floor
            if floor is not None and floor.stream_seq == acknowledged:
                return


async def succeed(js: JetStreamContext, hears: Sequence[str], *, crash_after: int | None = None) -> None:
    """What a session does; with `crash_after`, only this many of the consumers are made."""
    predecessor = await find_predecessor(js, "product")
    for name, fact in list(consumer_names("product", hears).items())[:crash_after]:
        place = ConsumerPlace(EVENTS, name)
        begin_after = predecessor.begin_after(place, fact) if predecessor else 0
        await ensure_consumer(js, place, fact, 6, begin_after=begin_after)
    if crash_after is None:
        await remove_predecessor(js, predecessor)


FACTS = ("order.created.pending", "order.canceled", "order.created.pending", "order.canceled", "point.use.failed")
HEARD_NOW = ("order.created.pending", "order.canceled", "point.use.failed")


@pytest.mark.parametrize("crash_after", [None, 1, 2])
async def test_consumers_for_each_fact_begin_where_the_one_for_all_was(
    js: JetStreamContext, crash_after: int | None
) -> None:
    await say(js, *(f"{fact}.o{n}" for n, fact in enumerate(FACTS, 1)), "order.canceled.o6")
    await of_the_version_before(js, acknowledged=2)
    if crash_after:
        await succeed(js, HEARD_NOW, crash_after=crash_after)
    await succeed(js, HEARD_NOW)

    assert sequences(await pull(js, 1, "product-hears-order-created-pending")) == [3]
    assert sequences(await pull(js, 2)) == [4, 6]
    assert sequences(await pull(js, 1, "product-hears-point-use-failed")) == [5], "it was not heard before"
    with pytest.raises(NotFoundError):
        await js.consumer_info(EVENTS, "product")


async def test_a_predecessor_that_is_ahead_of_a_truncated_stream_is_followed_to_the_streams_end(
    js: JetStreamContext,
) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 6)))

    assert await ensure_consumer(js, PLACE, HEARS, 3, begin_after=5) == 3

    assert sequences(await pull(js, 2)) == [4, 5]


async def test_a_consumer_of_every_message_is_nobodys_predecessor(js: JetStreamContext) -> None:
    assert consumer_names("product-all", ()) == {"product-all": None}

    await ensure_consumer(js, ConsumerPlace(EVENTS, "product-all"), None, 0)

    assert await find_predecessor(js, "product-all") is None
    await remove_predecessor(js, None)
    assert (await js.consumer_info(EVENTS, "product-all")).config.filter_subject is None


def test_each_fact_has_a_consumer_of_its_own_name() -> None:
    names = consumer_names("order", FACTS_BY_NAME)

    assert len(names) == len(FACTS_BY_NAME)
    assert all(name.replace("-", "").isalnum() for name in names)
