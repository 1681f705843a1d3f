"""Watches the in-flight orders: which service they wait for, and whether admission refuses new ones.

While the oldest in-flight order is late, or new orders are refused, the stream is asked once a second. The question is
how far the oldest orders are, and a sample of the others. All in-flight orders are looked up only if a service, by
these, has answered nothing since an order reached it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from time import monotonic
from typing import Final, NamedTuple

import structlog

from contracts import WITHDRAWALS, Fact, OrderCanceled, OrderConfirmed, OrderCreatedPending
from contracts.fact import DECODE_ERRORS, time_of
from infra.aio import wait
from infra.broker.client import BrokerClient
from infra.broker.errors import HistoryUnavailable
from infra.broker.lookup import MOST_FACTS, latest_messages
from infra.process.runtime import Runtime
from infra.read_models.errors import ViewBehind
from order_svc.admission import AdmissionControl
from order_svc.listing import LEFT_OPEN, Listing
from order_svc.waits import ENDS, Facts, PublishedAt, Unanswered, names, spread, unanswered, waits_for

logger = structlog.get_logger()

LOOK_EVERY_S: Final = 1.0
LATE_AFTER: Final = timedelta(seconds=2)
"""An in-flight order of this age is late: what it waits for is looked up."""
SILENT_AFTER: Final = timedelta(seconds=1)
"""A service that has answered nothing for this long since an order reached it is named. Also the time
from admission's first refusal to the log's line about it."""
OPEN_AFTER_S: Final = 5.0
"""Admission counts as open again after this many seconds without a refusal, once it would admit an order."""
OLDEST: Final = 64
OTHERS: Final = 64
"""At first, at most so many of the orders after the oldest are looked up, at even distances: those that reached a
service after its last answer may all be among them."""
ENDED: Final = 16
"""How many of the last orders that a step ended are looked up, too: their facts show which services answer."""

NAMES: Final = names()
AT_ONCE: Final = MOST_FACTS // len(NAMES)
"""Orders in one question to the stream."""


class Refusing(NamedTuple):
    """A period in which admission control refuses new orders: `refused` counts the orders refused so far.

    `why`: the reason of the last refusal; `last`: its time by `monotonic()`, in seconds.
    """

    since: datetime
    why: str
    refused: int
    last: float


class Progress:
    """Knows the in-flight orders, and which service leaves them waiting.

    It tells that to `/readyz`, the log, and the clients whose orders admission control refuses. Orders that were in
    flight at the start are included.
    """

    def __init__(self, runtime: Runtime, admission: AdmissionControl) -> None:
        """Add `recorded`, `warnings` and `run` to the runtime. Make it once, before the tasks are started."""
        self._runtime = runtime
        self._admission = admission
        self._in_flight: dict[str, datetime] = {}
        """Order id → when it was accepted, or found after the start; the oldest first."""
        self._ended: deque[str] = deque(maxlen=ENDED)
        self._found_left_open = False
        self._unanswered: dict[str, Unanswered] = {}
        self._known: dict[str, Facts] = {}
        """What is known of the orders that wait for a service in `_unanswered`: it stays so until that one answers."""
        self._spread = ""
        self._refusing: Refusing | None = None
        self._logged_refusing = False
        runtime.on_recorded.append(self.recorded)
        runtime.warnings.append(self.warnings)
        runtime.tasks.append(self.run)

    def recorded(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, OrderCreatedPending):
                self._in_flight[fact.order_id] = fact.at
            elif isinstance(fact, OrderConfirmed | OrderCanceled):
                self._in_flight.pop(fact.order_id, None)
                if isinstance(fact, OrderConfirmed) or fact.reason not in WITHDRAWALS:
                    self._ended.append(fact.order_id)

    def refused(self, why: str) -> str:
        """Count an order that admission control refuses for the reason `why`; return what to tell the client."""
        before = self._refusing
        since, refused = (self._runtime.clock(), 0) if before is None else (before.since, before.refused)
        self._refusing = Refusing(since, why, refused + 1, monotonic())
        return f"{'; '.join(self.unanswered()) or why}; retry after the given delay"

    def unanswered(self) -> list[str]:
        """Return a sentence for each service that, at the last look, had answered nothing since an order reached it.

        That order had reached it SILENT_AFTER (1 s) or more before. `look` says when services are looked for at all.
        """
        now = self._runtime.clock()
        return [service.text(now) for service in self._unanswered.values()]

    def warnings(self) -> list[str]:
        """Return the warnings for `/readyz`: one for each service that does not answer, one if orders are refused."""
        found = [f"{text}: its /readyz and its log say why" for text in self.unanswered()]
        if self._refusing is not None:
            since, why, refused, _ = self._refusing
            found.append(
                f"new orders are refused since {since:%H:%M:%S} UTC ({why}): {refused} refused, "
                f"{len(self._in_flight)} in flight{self._spread}"
            )
        return found

    async def run(self) -> None:
        """Look once a second until the process closes."""
        while not await wait(self._runtime.closing, LOOK_EVERY_S):
            if not self._found_left_open:
                await self._find_left_open()
            try:
                await self.look()
            except HistoryUnavailable as error:
                logger.debug("the progress of orders cannot be looked up now", reason=str(error))
            self._report()

    async def _find_left_open(self) -> None:
        """Add the orders that were in flight at the start, as if they had been accepted now.

        Does nothing if the order list cannot be read; `run` tries again a second later.
        """
        try:
            rows = await self._runtime.views[Listing.name].select(LEFT_OPEN)
        except ViewBehind:
            return
        now = self._runtime.clock()
        self._in_flight = {order_id: now for order_id, _ in rows} | self._in_flight
        self._found_left_open = True

    async def look(self) -> None:
        """Find which services leave in-flight orders waiting, if the oldest order is late or new ones are refused.

        Otherwise, and without a connection to the broker, it finds none. Raises HistoryUnavailable if the stream cannot
        be read now.
        """
        nc, now = self._runtime.broker.connection, self._runtime.clock()
        oldest = list(islice(self._in_flight, OLDEST))
        late = bool(oldest) and self._in_flight[oldest[0]] <= now - LATE_AFTER
        if nc is None:  # the broker itself is what all orders wait for; `trouble` says so
            self._unanswered, self._known, self._spread = {}, {}, ""
            return
        if not oldest or not (late or self._refusing):
            self._unanswered, self._known, self._spread = self._replaced([]), {}, ""
            return
        others = list(islice(self._in_flight, OLDEST, None))
        facts = await self._ask(nc, [*oldest, *others[:: -(-len(others) // OTHERS) or 1], *self._ended])
        waiting_oldest = {order_id: facts[order_id] for order_id in oldest if order_id in facts}
        self._spread = _words(spread(waiting_oldest, self._in_flight), len(oldest))
        if not unanswered(facts, self._in_flight, now - SILENT_AFTER):
            self._unanswered, self._known = self._replaced([]), {}
            return
        facts = {order_id: known for order_id, known in self._known.items() if order_id in self._in_flight} | facts
        facts |= await self._ask(nc, [order_id for order_id in self._in_flight if order_id not in facts])
        self._unanswered = self._replaced(unanswered(facts, self._in_flight, now - SILENT_AFTER))
        waiting = self._unanswered.keys()
        self._known = {order_id: known for order_id, known in facts.items() if waits_for(known).keys() & waiting}

    async def _ask(self, nc: BrokerClient, order_ids: Sequence[str]) -> dict[str, Facts]:
        """Return the published facts by order id, then fact name; forget the orders that turn out to have ended.

        An order without published facts is left out. Raises HistoryUnavailable if the stream cannot be read now.
        """
        facts: dict[str, dict[str, PublishedAt]] = {}
        for first in range(0, len(order_ids), AT_ONCE):
            wanted = order_ids[first : first + AT_ONCE]
            subjects = [f"{name}.{order_id}" for order_id in wanted for name in NAMES]
            for message in await latest_messages(nc, subjects, self._runtime.broker.supervisor.streams):
                name, _, order_id = message.subject.rpartition(".")
                try:
                    at = time_of(message.body)
                except DECODE_ERRORS:  # another publisher's message
                    continue
                facts.setdefault(order_id, {})[name] = PublishedAt(message.sequence, at)
        for order_id, published in facts.items():
            if not ENDS.isdisjoint(published):
                self._in_flight.pop(order_id, None)
        return dict(facts)

    def _replaced(self, found: Iterable[Unanswered]) -> dict[str, Unanswered]:
        """Return these services by name, each with its earliest `since`; log those that are new and those gone.

        The earliest `since` is kept even if its order has been canceled meanwhile: the service is silent since then.
        """
        before, now = self._unanswered, self._runtime.clock()
        services = {
            one.service: one._replace(since=min(one.since, before[one.service].since)) if one.service in before else one
            for one in found
        }
        for service, one in services.items():
            if service not in before:
                logger.warning("a service does not answer", reason=one.text(now))
        for service, one in before.items():
            if service not in services:
                logger.info(
                    "a service answers again, or no order waits for it", waited_for=f"{service}_svc", since=one.since
                )
        return services

    def _report(self) -> None:
        """Log a line SILENT_AFTER after a period's first refusal, and a line when admission control admits again.

        It admits again after OPEN_AFTER_S seconds without a refusal, if it would admit an order now. That ends the
        period of refusing. A period without a first line gets no second one.
        """
        refusing = self._refusing
        if refusing is None:
            return
        if not self._logged_refusing and self._runtime.clock() - refusing.since >= SILENT_AFTER:
            self._logged_refusing = True
            logger.warning(
                "admission refuses new orders",
                reason="; ".join(self.unanswered()) or refusing.why + self._spread,
                in_flight=len(self._in_flight),
                refused=refusing.refused,
            )
        if (
            monotonic() - refusing.last >= OPEN_AFTER_S
            and self._admission.rejection("", self._runtime.writer.waiting) is None
        ):
            if self._logged_refusing:
                logger.info("admission admits new orders again", refused=refusing.refused, since=refusing.since)
            self._refusing, self._logged_refusing = None, False


def _words(counts: dict[str, int], of: int) -> str:
    found = ", ".join(f"{count} for {service}_svc" for service, count in counts.items())
    return f"; of the oldest {of}, {found}" if found else ""
