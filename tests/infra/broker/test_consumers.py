"""A service's durable consumer on a real broker: unacknowledged messages are delivered again at once."""

from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo

from infra.broker import consumers
from infra.broker.consumers import MAX_ACK_PENDING
from infra.broker.streams import EVENTS
from tests.infra.broker.mirroring import session
from tests.shop import PATIENCE_S, Shop, attempts

HEARS = frozenset({"order.created.pending", "order.canceled"})

ensure_consumer = partial(consumers.ensure_consumer, ack_wait_s=3_600.0)
"""No redelivery that comes by itself could make a test pass."""


@pytest.fixture
async def js(broker: Shop) -> AsyncIterator[JetStreamContext]:
    async with session(broker) as js:
        yield js


async def say(js: JetStreamContext, *subjects: str) -> None:
    for subject in subjects:
        await js.publish(subject, b"{}")


async def pull(js: JetStreamContext, messages: int) -> list[Msg]:
    """This many deliveries, not acknowledged."""
    subscription = await js.pull_subscribe_bind("product", EVENTS)
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
    found: ConsumerInfo = await js.consumer_info(EVENTS, "product")
    return found


def sequences(messages: Sequence[Msg]) -> list[int]:
    return [message.metadata.sequence.stream for message in messages]


async def test_a_missing_consumer_is_made_durable_cumulative_and_without_an_end(js: JetStreamContext) -> None:
    await ensure_consumer(js, "product", HEARS, 0)

    config = (await info(js)).config
    assert config.durable_name == "product"
    assert sorted(config.filter_subjects or []) == ["order.canceled.*", "order.created.pending.*"]
    assert (config.deliver_policy, config.ack_policy) == ("all", "all")
    assert (config.max_deliver, config.max_ack_pending) == (-1, MAX_ACK_PENDING)
    assert config.ack_wait == 3_600


async def test_a_new_consumer_hears_what_was_said_before_it_and_only_what_it_reacts_to(js: JetStreamContext) -> None:
    await say(js, "order.created.pending.o1", "point.used.o1", "order.canceled.o1", "order.confirmed.o2")

    await ensure_consumer(js, "product", HEARS, 4)

    assert [message.subject for message in await pull(js, 2)] == ["order.created.pending.o1", "order.canceled.o1"]
    assert (await info(js)).num_pending == 0


async def test_a_new_consumer_takes_nothing_over_from_what_a_power_cut_left_of_another(
    broker: Shop, js: JetStreamContext
) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 4)))
    await ensure_consumer(js, "product", HEARS, 3)
    await acknowledge(js, (await pull(js, 2))[1])
    await broker.stop("nats")
    (folder,) = broker.folder.glob("nats/**/EVENTS/obs/product")
    (folder / "meta.inf").unlink()
    assert (folder / "o.dat").exists()
    await broker.start_nats()

    async with session(broker) as after:
        await ensure_consumer(after, "product", HEARS, 3)

        assert sequences(await pull(after, 3)) == [1, 2, 3]


async def test_what_a_dead_session_had_in_hand_is_delivered_again_at_once(js: JetStreamContext) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 6)))
    await ensure_consumer(js, "product", HEARS, 5)
    in_hand = await pull(js, 5)
    await acknowledge(js, in_hand[1])

    await ensure_consumer(js, "product", HEARS, 5)

    assert sequences(await pull(js, 3)) == [3, 4, 5]


async def test_delivery_numbers_begin_at_1_again_so_that_no_gap_goes_unseen(js: JetStreamContext) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 4)))
    await ensure_consumer(js, "product", HEARS, 3)
    await acknowledge(js, (await pull(js, 3))[0])

    await ensure_consumer(js, "product", HEARS, 3)

    assert [message.metadata.sequence.consumer for message in await pull(js, 2)] == [1, 2]


async def test_a_consumer_with_another_filter_starts_over(js: JetStreamContext) -> None:
    await say(js, "order.canceled.o1", "point.use.failed.o1", "order.canceled.o2")
    await ensure_consumer(js, "product", HEARS, 3)
    await acknowledge(js, (await pull(js, 2))[-1])

    await ensure_consumer(js, "product", HEARS | {"point.use.failed"}, 3)

    assert sequences(await pull(js, 3)) == [1, 2, 3]
    assert len((await info(js)).config.filter_subjects or []) == 3


async def test_a_consumer_ahead_of_a_stream_that_lost_its_tail_goes_back_to_the_streams_end(
    js: JetStreamContext,
) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 6)))
    await ensure_consumer(js, "product", HEARS, 5)
    await acknowledge(js, (await pull(js, 5))[-1])

    # As if the stream had ended at 3 and the relays had written 4 and 5 again since.
    await ensure_consumer(js, "product", HEARS, 3)

    assert sequences(await pull(js, 2)) == [4, 5]


async def test_a_consumer_goes_back_to_where_the_stream_was_lost_and_written_again(js: JetStreamContext) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 8)))
    await ensure_consumer(js, "product", HEARS, 7)
    await acknowledge(js, (await pull(js, 7))[-1])

    await ensure_consumer(js, "product", HEARS, 7, truncated_after=4)

    assert sequences(await pull(js, 3)) == [5, 6, 7]


async def test_no_unacknowledged_message_before_a_truncation_is_skipped(js: JetStreamContext) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 8)))
    await ensure_consumer(js, "product", HEARS, 7)
    await acknowledge(js, (await pull(js, 7))[1])  # the third one waits for another attempt

    await ensure_consumer(js, "product", HEARS, 7, truncated_after=4)

    assert sequences(await pull(js, 5)) == [3, 4, 5, 6, 7]


async def test_a_consumer_never_begins_after_what_the_service_has_acknowledged(js: JetStreamContext) -> None:
    """A power cut may bring back the state that the consumer had before it went back."""
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 8)))
    assert await ensure_consumer(js, "product", HEARS, 7) == 0
    await acknowledge(js, (await pull(js, 7))[5])

    assert await ensure_consumer(js, "product", HEARS, 7, acknowledged=2) == 2

    assert sequences(await pull(js, 5)) == [3, 4, 5, 6, 7]
    assert await ensure_consumer(js, "product", HEARS, 7, acknowledged=5) == 2, "the broker has less"


async def test_a_consumer_that_has_acknowledged_all_hears_nothing_again(js: JetStreamContext) -> None:
    await say(js, *(f"order.canceled.o{n}" for n in range(1, 6)))
    await ensure_consumer(js, "product", HEARS, 5)
    await acknowledge(js, (await pull(js, 5))[-1])

    await ensure_consumer(js, "product", HEARS, 5)
    await say(js, "order.canceled.o6")

    assert sequences(await pull(js, 1)) == [6]
    assert (await info(js)).num_pending == 0


async def test_settings_that_may_be_updated_are_updated(js: JetStreamContext) -> None:
    await ensure_consumer(js, "product", HEARS, 0)

    await ensure_consumer(js, "product", HEARS, 0, max_ack_pending=77)

    assert (await info(js)).config.max_ack_pending == 77
