"""Who waits for an order's end, and until when."""

import asyncio
from datetime import UTC, datetime

import pytest

from contracts import Line, Order, OrderCanceled, Reason
from order_svc.ends import Ends

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def canceled(order_id: str, reason: Reason = "product-out-of-stock") -> OrderCanceled:
    order = Order("u1", (Line("p1", 1),), 0, None, NOW)
    return OrderCanceled(
        at=NOW, cause=None, order_id=order_id, order=order, reason=reason,
        unit_prices=None, total=None, discount=None,
    )  # fmt: skip


async def test_everybody_who_waits_for_an_order_gets_its_end_and_nobody_elses() -> None:
    ends = Ends(asyncio.Event(), 60.0)
    first, second, other = ends.watch("o1"), ends.watch("o1"), ends.watch("o2")
    end = canceled("o1")

    ends.recorded([end])

    assert (first.result(), second.result(), other.done()) == (end, end, False)
    ends.forget("o1", first)
    ends.forget("o1", second)
    ends.forget("o2", other)
    ends.recorded([canceled("o2")])  # nobody waits any more


async def test_who_waits_too_long_is_told_so_in_turn() -> None:
    ends = Ends(asyncio.Event(), 0.02)
    loop = asyncio.get_running_loop()
    began = loop.time()
    first = ends.watch("o1")
    ends.forget("o1", first)  # its place in the queue must not hold up the others
    second = ends.watch("o2")

    assert await second is None
    assert loop.time() - began >= 0.019
    third = ends.watch("o3")
    assert await third is None


async def test_a_timer_that_finds_nobody_due_goes_on_for_those_that_come_later() -> None:
    ends = Ends(asyncio.Event(), 0.05)
    ends.forget("o1", ends.watch("o1"))
    await asyncio.sleep(0.03)
    later = ends.watch("o2")
    ended = ends.watch("o3")
    ends.recorded([canceled("o3")])

    assert await later is None
    assert ended.result() == canceled("o3")


async def test_nobody_is_told_anything_before_the_process_ends_and_then_everybody_is() -> None:
    closing = asyncio.Event()
    ends = Ends(closing, 3_600.0)
    running = asyncio.create_task(ends.run())
    waiting = [ends.watch("o1"), ends.watch("o1"), ends.watch("o2")]
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(watched.done() for watched in waiting)

    closing.set()
    await running

    assert [watched.result() for watched in waiting] == [None, None, None]
    assert ends.watch("o3").result() is None, "at once"


async def test_nothing_is_kept_of_those_who_wait_no_more() -> None:
    ends = Ends(asyncio.Event(), 60.0)
    first, second = ends.watch("o1"), ends.watch("o1")

    ends.forget("o1", first)
    assert (first.result(), ends._waiting) == (None, {"o1": [second]})
    ends.forget("o1", second)
    assert (second.result(), ends._waiting, len(ends._due)) == (None, {}, 0)


@pytest.mark.parametrize("before", [True, False])
async def test_nobody_waits_once_the_process_ends(*, before: bool) -> None:
    closing = asyncio.Event()
    ends = Ends(closing, 60.0)
    running = asyncio.create_task(ends.run())
    if before:
        closing.set()
    watched = ends.watch("o1")
    closing.set()

    assert await watched is None
    await running
