"""Deadlines try again what may work again, and not in every turn of the event loop."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from contracts import OrderCreatedPending
from infra.core.errors import StoreUnavailable, StreamUnavailable, StreamUnreadable
from infra.read_models.tables import ViewBehind
from order_svc.deadlines import Deadlines
from order_svc.listing import Listing
from tests.examples import order_created


class Broken:
    def __init__(self) -> None:
        self.asked = 0

    async def select(self, _: str) -> Any:
        self.asked += 1
        raise ViewBehind("its file is damaged")


async def test_a_list_that_cannot_be_read_is_not_asked_in_every_turn_of_the_loop() -> None:
    view = Broken()
    runtime: Any = SimpleNamespace(views={Listing.name: view})

    loading = asyncio.create_task(Deadlines(runtime)._load())
    for _ in range(100):
        await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading

    assert view.asked == 1


async def tries(error: Exception, fact: OrderCreatedPending) -> int:
    """How often an order's deadline is tried in three rounds, a minute apart."""
    tried = 0

    async def execute(_: object) -> None:
        nonlocal tried
        tried += 1
        if tried == 3:
            closing.set()
        raise error

    closing, minutes = asyncio.Event(), iter(range(60))

    def clock() -> datetime:
        minute = next(minutes)
        if minute == 5:
            closing.set()
        return datetime(2026, 3, 1, 10, minute, tzinfo=UTC)

    runtime: Any = SimpleNamespace(writer=SimpleNamespace(execute=execute), clock=clock, closing=closing)
    deadlines = Deadlines(runtime)
    deadlines.recorded([fact])
    await deadlines._time()
    return tried


async def test_an_unreadable_order_is_tried_once_and_another_until_it_can_be_recorded() -> None:
    unreadable = StreamUnavailable(StreamUnreadable("order-o1", "of newer code", newer=True))

    assert await tries(unreadable, order_created()) == 1
    assert await tries(StoreUnavailable("disk full"), order_created()) == 3
