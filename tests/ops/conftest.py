"""A day of more than 2,000 orders of every kind, had once; each test works on a copy of what it left."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from infra.local.services import service_names
from tests.audit.crowd import Answered, open_crowd
from tests.shop import Shop, open_shop

SEED = 2_027


class Day(NamedTuple):
    """What was left in `folder`, all processes stopped in good order; `answers` as the clients were told them."""

    folder: Path
    answers: list[Answered]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def day(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Day]:
    folder = tmp_path_factory.mktemp("day")
    async with open_shop(folder) as shop:
        async with open_crowd(shop, SEED) as crowd:
            await crowd.prepare()
            await crowd.shop_till_closing()
        await shop.until_quiet()
        for name in [*service_names(), "nats"]:
            assert await shop.stop(name) in (0, 1)  # nats-server ends a SIGTERM with 1
    yield Day(folder, crowd.answers)


@pytest.fixture
async def left(day: Day, tmp_path: Path) -> AsyncIterator[Shop]:
    """What the day left, on ports of its own: nothing runs yet, and anything may be started or damaged."""
    folder = tmp_path / "left"
    await asyncio.to_thread(shutil.copytree, day.folder, folder)
    shop = Shop(folder)
    try:
        yield shop
    finally:
        await shop.close()


@pytest.fixture
async def running(left: Shop) -> Shop:
    """The same, open again: a broker and all services."""
    await left.start_nats()
    await left.start()
    await left.until_quiet()
    return left
