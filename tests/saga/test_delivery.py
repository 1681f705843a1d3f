"""However the broker delivers, the outcome is the same."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.saga.rush import Rush
from tests.shop import Shop, consumers_of, open_shop


@pytest.fixture
async def broker_only(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path)
    await shop.start_nats()
    yield shop
    await shop.close()


@pytest.mark.parametrize("wrapper", ["twice", "backwards"])
async def test_deliveries_that_come(wrapper: str, broker_only: Shop) -> None:
    await broker_only.start(wrapper=wrapper)
    rush = Rush(broker_only, 120)
    await rush.prepare()
    await rush.place()
    await rush.assert_settled()


async def test_the_whole_history_delivered_again(tmp_path: Path) -> None:
    """A consumer that starts over hears everything since the beginning, long after it was answered."""
    async with open_shop(tmp_path) as shop:
        rush = Rush(shop, 60)
        await rush.prepare()
        await rush.place()
        await rush.assert_settled()
        before = await shop.events()
        async with shop.broker() as client:
            js = client.jetstream()
            for name in shop.services:
                for consumer in await consumers_of(js, name):
                    await js.reset_consumer("EVENTS", str(consumer.name), 1)
        await rush.assert_settled()
        assert await shop.events() == before
