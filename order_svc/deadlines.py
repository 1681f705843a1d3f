"""Orders that do not end in time are canceled, also those whose time ran out while nobody was there to see it.

Live orders are timed in memory, from the facts as they are recorded; a view of the orders that are open tells a process
that starts which ones it has to time.
"""

import asyncio
import heapq
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import structlog
from msgspec import Struct, json

from contracts import Fact, OrderCanceled, OrderConfirmed, OrderCreatedPending
from contracts.wire import fact_id
from infra.service import Runtime
from infra.store import Notification
from infra.views import Statement, ViewBehind
from infra.writer import Busy, StoreUnavailable
from order_svc.domain import Expire

log = structlog.get_logger()

RETRY: Final = timedelta(seconds=1)
MAX_AT_ONCE: Final = 1_000
LONGEST_SLEEP_S: Final = 0.5  # a clock that jumps is noticed after this


class _Deadline(Struct):
    order_id: str
    deadline: datetime


_decode = json.Decoder(_Deadline).decode


class OpenOrders:
    """Projection: the orders that have not ended, with their deadlines (RFC 3339)."""

    name = "open_orders"
    topics = ("order.created.pending", "order.confirmed", "order.canceled")
    tables = "CREATE TABLE IF NOT EXISTS open_orders (order_id TEXT PRIMARY KEY, deadline TEXT) WITHOUT ROWID"

    def apply(self, records: Sequence[Notification]) -> list[Statement]:
        opened: dict[str, str] = {}
        ended: list[tuple[str]] = []
        for record in records:
            order_id = record.originator_id.partition("-")[2]
            if record.topic == "order.created.pending":
                opened[order_id] = _decode(record.state).deadline.isoformat()
            elif opened.pop(order_id, None) is None:
                ended.append((order_id,))
        return [
            ("INSERT OR REPLACE INTO open_orders VALUES (?, ?)", list(opened.items())),
            ("DELETE FROM open_orders WHERE order_id = ?", ended),
        ]


class Deadlines:
    """The clock of the open orders."""

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
        """Time the orders that were open when the process started; the view may have to catch up first."""
        while True:
            try:
                rows = await self._runtime.views["open_orders"].select("SELECT order_id, deadline FROM open_orders")
                break
            except ViewBehind as behind:
                log.warning("the orders left open are not known yet", reason=str(behind))
        for order_id, deadline in rows:
            self._watch(order_id, datetime.fromisoformat(deadline))
        if rows:
            log.info("orders were left open", orders=len(rows))

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
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(wait_s, LONGEST_SLEEP_S))):
                    await self._runtime.closing.wait()
                    return

    async def _expire(self, order_id: str, now: datetime) -> None:
        try:
            await self._runtime.writer.ask(Expire(order_id, now, fact_id(f"order-{order_id}", 1)))
        except (Busy, StoreUnavailable):
            heapq.heappush(self._heap, (now + RETRY, order_id))
        else:
            self._open.discard(order_id)


def deadlines(runtime: Runtime) -> None:
    """Time the orders of this service."""
    clock = Deadlines(runtime)
    runtime.on_recorded.append(clock.recorded)
    runtime.tasks.append(clock.run)
