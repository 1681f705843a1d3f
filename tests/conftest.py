"""Shared fixtures. A shop costs half a second to open, so tests that leave nothing behind share one per module."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests import levels
from tests.shop import Shop, open_shop

SIMULATOR = Path(__file__).parent / "sim"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the levels before `-m` selects by them. Spread the simulator's files: they work while other tests wait."""
    levels.mark_all(items, config.rootpath)
    by_file: dict[Path, list[pytest.Item]] = {}
    for item in items:
        by_file.setdefault(item.path, []).append(item)
    files = [file for file in by_file if not file.is_relative_to(SIMULATOR)]
    spread = [file for file in by_file if file.is_relative_to(SIMULATOR)]
    for n, file in enumerate(spread, 1):
        files.insert(n * len(by_file) // (len(spread) + 1), file)
    items[:] = [item for file in files for item in by_file[file]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    levels.guard(item)
    try:
        return (yield)
    finally:
        levels.guard(None)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop of the test's own."""
    async with open_shop(tmp_path) as opened:
        yield opened


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Shop]:
    """A real nats-server of the test's own, and no service."""
    shop = Shop(tmp_path)
    try:
        await shop.start_nats()
        yield shop
    finally:
        await shop.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_all_day(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """One shop for all tests of a module; they use products, customers and coupons of their own."""
    async with open_shop(tmp_path_factory.mktemp("shop")) as opened:
        yield opened
