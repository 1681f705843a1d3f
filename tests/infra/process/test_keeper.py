"""The keeper on a real broker: it rolls over in time, seals what is quiet, and goes on after any interruption."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from nats.js import JetStreamContext

from infra.broker.generations import find_generations, generation_numbers
from infra.broker.numbering import EVENTS, stream_name
from infra.broker.rolling import Sealing
from infra.broker.streams import ensure_stream
from infra.process.keeper import Keeper
from tests.infra.broker.mirroring import client, session, settings
from tests.shop import PATIENCE_S, Shop, attempts


@contextlib.asynccontextmanager
async def keeping(broker: Shop, messages: int = 3, quiet_s: float = 0.0) -> AsyncIterator[Keeper]:
    keeper = Keeper(replace(settings(broker), events_roll_messages=messages), sealing=Sealing(quiet_s))
    running = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        keeper.stopping.set()
        async with asyncio.timeout(PATIENCE_S):
            await running


async def publish(js: JetStreamContext, begin: str, *keys: str) -> None:
    for key in keys:
        await js.publish(f"{begin}point.charged.{key}", b"{}")


async def until(js: JetStreamContext, numbers: list[int], sealed: list[bool]) -> None:
    async for _ in attempts(f"generations {numbers}"):
        infos = await find_generations(client(js), js)
        if [bool(info.config.sealed) for info in infos] == sealed:
            assert await generation_numbers(client(js)) == numbers
            return


async def test_it_makes_the_next_generation_when_the_newest_is_full_enough_and_seals_the_one_before(
    broker: Shop,
) -> None:
    async with session(broker) as js, keeping(broker):
        await publish(js, "", "a", "b", "c")
        await until(js, [0, 1], [True, False])
        await publish(js, "l1.", "d", "e", "f")
        await until(js, [0, 1, 2], [True, True, False])


async def test_two_keepers_at_once_make_each_generation_once(broker: Shop) -> None:
    async with session(broker) as js, keeping(broker), keeping(broker), keeping(broker):
        await publish(js, "", "a", "b", "c")
        await until(js, [0, 1], [True, False])
        await publish(js, "l1.", "d", "e", "f")
        await until(js, [0, 1, 2], [True, True, False])


async def test_a_keeper_that_was_killed_before_it_made_the_consumers_is_followed_by_one_that_does(
    broker: Shop,
) -> None:
    async with session(broker) as js:
        await js.add_consumer(EVENTS, durable_name="point-hears-x", ack_policy="all", filter_subject="x.*")
        await publish(js, "", "a")
        await ensure_stream(js, settings(broker), 1)
        async with keeping(broker, messages=100):
            await until(js, [0, 1], [True, False])
        assert [info.name for info in await js.consumers_info(stream_name(1))] == ["point-hears-x"]


async def test_it_waits_for_the_first_generation_and_for_a_broker_that_is_away(broker: Shop) -> None:
    async with keeping(broker):
        await broker.kill("nats")
        await broker.start_nats()
        async with session(broker) as js:
            await publish(js, "", "a", "b", "c")
            await until(js, [0, 1], [True, False])


@pytest.mark.parametrize("messages", [4])
async def test_it_leaves_a_generation_alone_that_is_not_due(broker: Shop, messages: int) -> None:
    async with session(broker) as js:
        await publish(js, "", "a", "b", "c")
        await Keeper(replace(settings(broker), events_roll_messages=messages)).look(client(js))

        assert await generation_numbers(client(js)) == [0]
