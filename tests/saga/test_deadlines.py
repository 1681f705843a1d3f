"""The deadline of an order that only newer code can read is not tried again and again."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from contracts import OrderCreatedPending
from infra.core.errors import StoreUnavailable, StreamUnavailable, StreamUnreadable
from order_svc.deadlines import Deadlines
from tests.examples import order_created


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
