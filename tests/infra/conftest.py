"""What the tests of the runtime share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.infra.purse import WatchedStore
from tests.infra.writing import Desk, working
from tests.shop import Shop


@pytest.fixture
def store() -> Iterator[WatchedStore]:
    store = WatchedStore()
    yield store
    store.close()


@pytest.fixture
async def desk(store: WatchedStore) -> AsyncIterator[Desk]:
    """A writer of purses at work on `store`."""
    async with working(store) as desk:
        yield desk


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Shop]:
    """A real nats-server of the test's own, and no service."""
    shop = Shop(tmp_path)
    try:
        await shop.start_nats()
        yield shop
    finally:
        await shop.close()
