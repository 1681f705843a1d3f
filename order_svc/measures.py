"""The metrics of orders: accepted, refused and ended ones, how long they took, and which wait for their end."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from contracts import REASONS, Fact, OrderCanceled, OrderConfirmed, OrderCreatedPending
from infra.aio import wait
from infra.broker.errors import HistoryUnavailable
from infra.broker.lookup import archived_facts
from infra.metrics import Histogram, Labels
from infra.process.runtime import Runtime
from infra.read_models.errors import ViewBehind
from infra.timestamps import instant
from order_svc.compensations import KEPT, SECONDS, Canceled, Compensations
from order_svc.listing import PENDING_SINCE, Listing, canceled_last

logger = structlog.get_logger()

LOOK_EVERY_S: Final = 1.0
REFUSED: Final = ("overload", "draining", "not_ready")
"""Causes for which a valid order is refused: admission, the end of the process, and what `/readyz` says."""
INVALID: Final = (400, 401, 403, 408, 413, 415, 421, 422)
TOO_MANY_OF_ONE: Final = (429,)
"""Statuses that refuse a request for what it is, and for how many the client sends."""


class OrderMeasures:
    """Counts and times the orders that this process accepts or ends; knows which are pending.

    Orders accepted before its start count when they end, and are among the pending ones.
    """

    def __init__(self, runtime: Runtime, compensations: Compensations) -> None:
        """Export the metrics, and add `recorded` and `run` to the runtime. Make it once, before the start."""
        self._runtime = runtime
        self._pending: dict[str, datetime] = {}
        """Order id → when it was accepted; the oldest first."""
        self._found_left_open = False
        self._ended_meanwhile: set[str] | None = None
        """Orders that end while those left open are read; None at all other times."""
        metrics = runtime.metrics
        self._accepted = metrics.counter("saga_orders_accepted_total", "Orders that were recorded.")
        self._refused = dict.fromkeys(REFUSED, 0)
        metrics.counters_of(
            "saga_orders_refused_total", "Requests for an order that were refused.", ("cause",), self._refusals
        )
        ended = metrics.counters_by(
            "saga_orders_ended_total",
            "Ends that were recorded; an order that is canceled after its confirmation has two.",
            ("end", "reason"),
            [("confirmed", "none"), *(("canceled", reason) for reason in REASONS)],
        )
        self._confirmed = ended["confirmed", "none"]
        self._canceled = {reason: ended["canceled", reason] for reason in REASONS}
        durations = metrics.histograms_by(
            "saga_order_end_duration_seconds",
            "Seconds from the acceptance of an order to its first end, as both are recorded.",
            SECONDS,
            ("end",),
            [("confirmed",), ("canceled",)],
        )
        self._confirmed_s, self._canceled_s = durations["confirmed",], durations["canceled",]
        self._compensations = compensations
        self._export_waiting()
        runtime.on_recorded.append(self.recorded)
        runtime.tasks.append(self.run)

    def _export_waiting(self) -> None:
        metrics = self._runtime.metrics
        metrics.gauge("saga_orders_pending", "Orders that are accepted and have not ended.", lambda: len(self._pending))
        metrics.gauge(
            "saga_oldest_pending_order_age_seconds",
            "Age of the oldest of these; 0 if there is none.",
            lambda: self._seconds_since(next(iter(self._pending.values()), None)),
        )
        metrics.gauge(
            "saga_orders_uncompensated",
            "Canceled orders of which something is still taken, at the last look.",
            lambda: len(self._compensations),
        )
        metrics.gauge(
            "saga_oldest_uncompensated_order_age_seconds",
            "Seconds since the oldest of these was canceled; 0 if there is none.",
            lambda: self._seconds_since(self._compensations.oldest),
        )

    def _seconds_since(self, since: datetime | None) -> float:
        return 0.0 if since is None else max(0.0, (self._runtime.clock() - since).total_seconds())

    def refused(self, cause: str) -> None:
        """Count a valid order that is refused; `cause` is one of REFUSED."""
        self._refused[cause] += 1

    def _refusals(self) -> Mapping[Labels, float]:
        requests = self._runtime.requests
        refused: dict[Labels, float] = {(cause,): count for cause, count in self._refused.items()}
        refused["invalid",] = requests.count("POST", "/orders", INVALID)
        refused["rate",] = requests.count("POST", "/orders", TOO_MANY_OF_ONE)
        return refused

    def recorded(self, facts: Sequence[Fact]) -> None:
        """Count the orders that these facts accept, and the ends among these facts; time the first ends.

        The runtime calls it once after each commit.
        """
        for fact in facts:
            if type(fact) is OrderCreatedPending:
                self._accepted.value += 1
                self._pending[fact.order_id] = fact.at
            elif type(fact) is OrderConfirmed:
                self._confirmed.value += 1
                self._end(fact, self._confirmed_s)
            elif type(fact) is OrderCanceled:
                self._canceled[fact.reason].value += 1
                # Only a confirmation knows the discount. Without it, this is the order's first end.
                self._end(fact, self._canceled_s if fact.discount is None else None)
                self._compensations.canceled(fact)

    def _end(self, fact: OrderConfirmed | OrderCanceled, durations: Histogram | None) -> None:
        if durations is not None:
            took_s = (fact.at - fact.order.placed_at).total_seconds()
            durations.observe(took_s if took_s > 0 else 0.0)
        self._pending.pop(fact.order_id, None)
        if self._ended_meanwhile is not None:
            self._ended_meanwhile.add(fact.order_id)

    async def run(self) -> None:
        """Look once a second which canceled orders are compensated, until the process closes.

        The looks begin once the order list could be read. Without a connection to the broker there is no look.
        """
        archived = partial(archived_facts, self._runtime.settings, "order_id")
        while not await wait(self._runtime.closing, LOOK_EVERY_S):
            nc = self._runtime.broker.connection
            try:
                if not self._found_left_open:
                    await self._find_left_open()
                if nc is not None:
                    await self._compensations.look(nc, self._runtime.broker.supervisor.streams, archived)
            except (ViewBehind, HistoryUnavailable) as error:
                logger.debug("what orders wait for cannot be looked up now", reason=str(error))

    async def _find_left_open(self) -> None:
        """Add the orders that were pending at the start, and the KEPT canceled ones that were placed last.

        Raises ViewBehind if the order list cannot be read now.
        """
        orders, ended = self._runtime.views[Listing.name], set[str]()
        self._ended_meanwhile = ended
        try:
            rows = await orders.select(PENDING_SINCE)
            canceled = await orders.select(*canceled_last(KEPT))
        finally:
            self._ended_meanwhile = None
        left = {order_id: instant(placed_at) for order_id, placed_at in rows if order_id not in ended}
        self._pending = left | self._pending
        self._compensations.found(
            {
                order_id: Canceled(reason, instant(at), instant(placed_at), counts=False)
                for placed_at, order_id, reason, at in canceled
            }
        )
        self._found_left_open = True
