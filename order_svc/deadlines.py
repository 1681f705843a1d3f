"""Cancels orders that have not ended by their deadline, including those that expired while the process was down.

Deadlines are kept in memory, from the facts as they are recorded. A process that starts finds the in-flight orders in
the order list.
"""

import asyncio
import heapq
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from contracts import Fact, OrderCanceled, OrderConfirmed, OrderCreatedPending
from contracts.wire import fact_id
from infra.aio import wait
from infra.core.errors import Busy, StoreUnavailable, StreamUnavailable, Unpublishable
from infra.process.runtime import Runtime
from infra.read_models.errors import ViewBehind
from infra.timestamps import instant
from order_svc.domain import Expire
from order_svc.listing import LEFT_OPEN, Listing

logger = structlog.get_logger()

RETRY: Final = timedelta(seconds=1)
MAX_AT_ONCE: Final = 1_000
LONGEST_SLEEP_S: Final = 0.5  # the clock is read this often, because it may jump


class Deadlines:
    """Keeps the deadlines of the in-flight orders in memory, and cancels each order that has not ended by its deadline.

    `recorded` adds and removes orders; `run` cancels them when they are due. A cancel that cannot be recorded is tried
    again after a second. If the order's stream cannot be read, its cancel is not tried again before the next start.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._heap: list[tuple[datetime, str]] = []
        self._open: set[str] = set()

    def recorded(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, OrderCreatedPending):
                self._watch(fact.order_id, fact.deadline)
            elif isinstance(fact, OrderConfirmed | OrderCanceled):
                self._open.discard(fact.order_id)

    def _watch(self, order_id: str, deadline: datetime) -> None:
        self._open.add(order_id)
        heapq.heappush(self._heap, (deadline, order_id))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(self._load())
            await self._time()
            loading.cancel()

    async def _load(self) -> None:
        """Watch the orders that are pending in the order list. Retries each second until the list can be read."""
        while True:
            try:
                rows = await self._runtime.views[Listing.name].select(LEFT_OPEN)
                break
            except ViewBehind as behind:
                logger.warning("the open orders cannot be read yet, and their deadlines wait", reason=str(behind))
                await asyncio.sleep(RETRY.total_seconds())
        for order_id, deadline in rows:
            self._watch(order_id, instant(deadline))
        if rows:
            logger.info("open orders found at the start; their deadlines are watched", orders=len(rows))

    async def _time(self) -> None:
        while True:
            now = self._runtime.clock()
            due: list[str] = []
            while (
                self._heap
                and len(due) < MAX_AT_ONCE
                and (self._heap[0][0] <= now or self._heap[0][1] not in self._open)
            ):
                _, order_id = heapq.heappop(self._heap)
                if order_id in self._open:
                    due.append(order_id)
            await asyncio.gather(*(self._expire(order_id, now) for order_id in due))
            wait_s = (self._heap[0][0] - now).total_seconds() if self._heap else LONGEST_SLEEP_S
            if await wait(self._runtime.closing, max(0.0, min(wait_s, LONGEST_SLEEP_S))):
                return

    async def _expire(self, order_id: str, now: datetime) -> None:
        try:
            await self._runtime.writer.execute(Expire(order_id, at=now, cause=fact_id(f"order-{order_id}", 1)))
        except StreamUnavailable:  # no other process reads it better, but newer code; `/readyz` tells of it
            self._open.discard(order_id)
        except (Busy, StoreUnavailable):
            heapq.heappush(self._heap, (now + RETRY, order_id))
        except Unpublishable as error:  # the broker takes smaller messages than it did when the order was accepted
            logger.error(
                "an order cannot be canceled at its deadline",
                order_id=order_id,
                cause=fact_id(f"order-{order_id}", 1),
                reason=str(error),
            )
            heapq.heappush(self._heap, (now + RETRY, order_id))
        else:
            self._open.discard(order_id)


def deadlines(runtime: Runtime) -> None:
    """Make a Deadlines and add its callback and its task to the runtime. Call it once, before the tasks are started."""
    clock = Deadlines(runtime)
    runtime.on_recorded.append(clock.recorded)
    runtime.tasks.append(clock.run)
