"""Orders are canceled at their deadlines: once, in any number, and again if it may work again."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from contracts import Fact, OrderCreatedPending
from infra.core.errors import Busy, StoreUnavailable, StreamUnavailable, StreamUnreadable, Unpublishable
from infra.process.runtime import Runtime
from infra.read_models.errors import ViewBehind
from infra.timestamps import microseconds
from order_svc.deadlines import Deadlines
from order_svc.domain import Expire
from order_svc.listing import Listing
from tests.examples import order_canceled, order_confirmed, order_created


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


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Run:
    """Deadlines with a clock that says these seconds after noon, one after the other; then the process closes."""

    def __init__(self, *seconds: float) -> None:
        self.expired: list[tuple[float, str]] = []
        """When which order was canceled."""
        self.causes: list[str | None] = []
        self.at_once = 0
        """The most that were being canceled at a time."""
        self.errors: list[Exception] = []
        """What the first attempts raise."""
        self.deadlines = Deadlines(cast("Runtime", self))
        self.writer = self
        self.closing = asyncio.Event()
        self.views = {Listing.name: self}
        self.listed: list[tuple[str, int]] = []
        self._times = iter(seconds)
        self._running = 0

    def clock(self) -> datetime:
        second = next(self._times, None)
        if second is None:
            self.closing.set()
            return NOON
        return NOON + timedelta(seconds=second)

    async def select(self, _: str) -> list[tuple[str, int]]:
        return self.listed

    async def execute(self, command: Expire) -> None:
        self._running += 1
        self.at_once = max(self.at_once, self._running)
        await asyncio.sleep(0)
        self._running -= 1
        self.expired.append(((command.at - NOON).total_seconds(), command.order_id))
        self.causes.append(command.cause)
        if self.errors:
            raise self.errors.pop(0)

    async def until_it_closes(self, *facts: Fact) -> list[tuple[float, str]]:
        self.deadlines.recorded(facts)
        await self.deadlines.run()
        return self.expired


def placed(order_id: str, seconds: float) -> OrderCreatedPending:
    """An order whose deadline is so many seconds after noon."""
    return replace(order_created(order_id=order_id), deadline=NOON + timedelta(seconds=seconds))


async def test_an_order_is_canceled_at_its_deadline_and_never_again() -> None:
    run = Run(0.9, 1, 2, 3)

    assert await run.until_it_closes(placed("later", 100), placed("o1", 1)) == [(1, "o1")]
    assert run.causes == ["order-o1@1"]


async def test_an_order_that_ended_is_not_canceled() -> None:
    ended = (order_canceled("customer-canceled", order_id="o1"), order_confirmed(order_id="o2"))

    assert await Run(2, 3).until_it_closes(placed("o1", 1), placed("o2", 1), placed("o3", 1), *ended) == [(2, "o3")]


NOT_NOW = (Busy("too much"), StoreUnavailable("disk full"), Unpublishable("o1", "too large"))


@pytest.mark.parametrize("error", NOT_NOW, ids=repr)
async def test_what_cannot_be_recorded_now_is_tried_again_a_second_later(error: Exception) -> None:
    run = Run(1, 1.9, 2, 3)
    run.errors = [error]

    assert await run.until_it_closes(placed("o1", 1)) == [(1, "o1"), (2, "o1")]


async def test_orders_left_open_by_an_earlier_process_are_canceled_at_their_deadlines() -> None:
    run = Run(0, 1, 2)
    run.listed = [("o1", microseconds(NOON + timedelta(seconds=1)))]

    assert await run.until_it_closes() == [(1, "o1")]


async def test_a_thousand_orders_are_canceled_at_once_and_no_more() -> None:
    run = Run(1, 1)

    assert len(await run.until_it_closes(*(placed(f"o{n}", 1) for n in range(1_001)))) == 1_001
    assert run.at_once == 1_000
