"""Received positions show whether the stream still has the received messages, and from where on it does not."""

import shutil

import pytest
from nats.js import JetStreamContext

from contracts.wire import MSG_ID
from infra.broker.numbering import EVENTS
from infra.broker.truncation import KEPT, ReceivedPositions
from infra.core.messages import StreamPosition
from infra.timestamps import microseconds
from tests.infra.broker.mirroring import leader, session
from tests.shop import Shop


async def publish(js: JetStreamContext, *fact_ids: str) -> None:
    for fact_id in fact_ids:
        await js.publish("point.charged.ann", b"{}", headers={MSG_ID: fact_id})


async def found(js: JetStreamContext, last: int) -> list[StreamPosition]:
    """The positions of the messages at the sequences 1, 2, 3, ..."""
    messages = [await js.get_msg(EVENTS, sequence, direct=True) for sequence in range(1, last + 1)]
    return [StreamPosition(message.seq or 0, microseconds(message.time)) for message in messages if message.time]


def received(positions: list[StreamPosition]) -> ReceivedPositions:
    found = ReceivedPositions()
    for position in positions:
        found.add(position)
    return found


async def test_a_stream_that_has_all_received_messages_was_not_truncated(broker: Shop) -> None:
    async with session(broker) as js:
        assert await ReceivedPositions().truncated_after(await leader(js)) is None
        await publish(js, "a@1", "a@2", "a@3")
        positions = await found(js, 3)
        assert await received(positions).truncated_after(await leader(js)) is None
        assert await received(positions[:2]).truncated_after(await leader(js)) is None


@pytest.mark.parametrize("kept", range(6))
async def test_the_last_position_with_the_same_message_is_found(kept: int, broker: Shop) -> None:
    async with session(broker) as js:
        await publish(js, *(f"a@{n}" for n in range(1, 6)))
        there = await found(js, 5)
        lost = [StreamPosition(sequence, 1) for sequence in range(kept + 1, 7)]
        positions = received([*there[:kept], *lost])

        assert await positions.truncated_after(await leader(js)) == kept
        # After a session that failed before its consumer went back, the next one finds the same position.
        assert await positions.truncated_after(await leader(js)) == kept
        positions.forget_after(kept)
        assert await positions.truncated_after(await leader(js)) is None


async def test_of_a_sealed_generation_only_the_last_position_is_kept_and_a_loss_is_still_found(broker: Shop) -> None:
    async with session(broker) as js:
        await publish(js, "a@1", "a@2", "a@3")
        there = await found(js, 3)
        whole, cut = received(there), received([*there, StreamPosition(4, 1)])
        for positions in (whole, cut):
            positions.keep_last()

        assert await whole.truncated_after(await leader(js)) is None
        assert await cut.truncated_after(await leader(js)) == 0


async def test_a_fact_that_was_published_again_at_its_old_sequence_is_not_the_received_message(broker: Shop) -> None:
    """There is another one before it now, which must be received."""
    store = broker.folder / "nats"
    async with session(broker) as js:
        await publish(js, "a@1", "a@2")
    await broker.stop("nats")
    shutil.copytree(store, broker.folder / "old")
    await broker.start_nats()
    async with session(broker) as js:
        await publish(js, "a@3", "a@4")
        known = received(await found(js, 4))
    await broker.kill("nats")
    shutil.rmtree(store)
    shutil.move(broker.folder / "old", store)
    await broker.start_nats()

    async with session(broker) as js:
        await publish(js, "b@1", "a@4")
        assert await known.truncated_after(await leader(js)) == 2


async def test_the_number_of_positions_is_bounded(broker: Shop) -> None:
    async with session(broker) as js:
        await publish(js, "a@1")
        positions = received([*await found(js, 1), *(StreamPosition(n + 2, 1) for n in range(KEPT))])
        assert await positions.truncated_after(await leader(js)) == 0
