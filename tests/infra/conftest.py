"""What the tests of the runtime share."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.infra.purse import WatchedStore
from tests.infra.writing import Desk, working


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
