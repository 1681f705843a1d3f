"""Restarts, the duplicate window long past, and mirrors of EVENTS: nothing is written twice, nothing stays missing."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamSource
from nats.js.errors import APIError

from infra.broker.numbering import EVENTS
from tests.shop import Shop, attempts, open_shop

ORDERS = 12


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop with some ended orders, whose broker forgets the ids of messages at once."""
    async with open_shop(tmp_path, DUPLICATE_WINDOW_S="0.1") as shop:
        await shop.register("mug", stock=1_000)
        await shop.charge("u1", 10_000)
        for n in range(ORDERS):
            answer = await shop.place([("mug", 1)], points=10, key=f"k{n}")
            assert answer.status_code == 200, answer.text
        await shop.until_quiet()
        yield shop


@contextlib.asynccontextmanager
async def jetstream(shop: Shop) -> AsyncIterator[JetStreamContext]:
    async with shop.broker() as nc:
        yield nc.jetstream()


async def forgotten(shop: Shop) -> None:
    """Returns when the broker has forgotten the ids of all messages so far, shown by one in a stream like EVENTS."""
    async with jetstream(shop) as js:
        await js.add_stream(StreamConfig(name="MARK", subjects=["mark"], duplicate_window=0.1))
        await js.publish("mark", headers={"Nats-Msg-Id": "mark"})
        async for _ in attempts("the end of the duplicate window"):
            if not (await js.publish("mark", headers={"Nats-Msg-Id": "mark"})).duplicate:
                break
        await js.delete_stream("MARK")


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_a_restart_writes_nothing_that_the_stream_has(shop: Shop, how: str) -> None:
    before = await shop.events()
    await forgotten(shop)

    for name in shop.services:
        await (shop.stop(name) if how == "stopped" else shop.kill(name))
        await shop.start(name)
    await shop.until_quiet()

    assert await shop.events() == before


@pytest.mark.parametrize("filter_subject", [None, "order.>"])
async def test_a_deleted_stream_is_written_again_beside_its_mirrors_and_restarts_write_nothing(
    shop: Shop, filter_subject: str | None
) -> None:
    before = await shop.events()
    async with jetstream(shop) as js:
        for n in range(3):
            source = StreamSource(name=EVENTS, filter_subject=filter_subject)
            await js.add_stream(StreamConfig(name=f"COPY{n}", mirror=source))
        async for _ in attempts("the mirrors to have something"):
            if all([(await js.stream_info(f"COPY{n}")).state.messages for n in range(3)]):
                break
        await js.delete_stream(EVENTS)

    wanted = {event.fact_id for event in before}
    async for _ in attempts("the stream to be whole again"):
        with contextlib.suppress(NatsError, APIError):
            if wanted <= {event.fact_id for event in await shop.events()}:
                break
    assert (await shop.place([("mug", 1)], key="after")).status_code == 200
    await shop.until_quiet()
    healed = await shop.events()
    assert max(Counter(event.fact_id for event in healed).values()) == 1
    await forgotten(shop)

    for name in shop.services:
        await shop.kill(name)
        await shop.start(name)
    await shop.until_quiet()
    assert await shop.events() == healed
