"""Finds when everything that a canceled order took is back, for metrics and lists: it asks the stream once a second.

It asks about canceled orders that may not be compensated yet. Those that were canceled in this process are all asked
about, up to MOST_OPEN, but not those that the first step refused. Of those canceled before its start, the KEPT that
were placed last are asked about. A shop without cancels asks nothing.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple, get_args, get_type_hints

from contracts import OrderCanceled, OrderConfirmed
from contracts.fact import DECODE_ERRORS, Fact, time_of
from contracts.step import fact_name
from contracts.wire import STEPS
from infra.broker.client import BrokerClient
from infra.broker.lookup import MOST_FACTS, latest_messages
from infra.metrics import Metrics
from infra.timestamps import microseconds
from order_svc.compensation import compensated
from order_svc.listing import PageKey

_SAID: Final = [step.says for step in (*STEPS.awaited, *STEPS.following)]
NAMES: Final = [fact_name(OrderConfirmed), *(fact_name(fact) for says in _SAID for fact in says)]
"""The facts about a canceled order that tell whether it is compensated."""
UNDOING: Final = frozenset(
    fact_name(fact) for step in (*STEPS.awaited, *STEPS.following) for fact in (step.undone, step.fenced)
)
REFUSED_BY: Final[Mapping[str, str]] = {
    reason: fact_name(step.refused)
    for step in STEPS.awaited
    if step.refused is not None
    for reason in get_args(get_type_hints(step.refused)["reason"])
}
"""Reason → the refusal that has it."""
AT_ONCE: Final = MOST_FACTS // len(NAMES)
"""Orders in one question to the stream."""
MOST: Final = 1_024
"""Orders that one look asks for; the others follow in the next looks."""
MOST_OPEN: Final = 100_000
"""Orders that are remembered while the stream cannot be asked; of further ones there is no count and no duration."""
SECONDS: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60)
"""Bounds of the time to an order's end. The objective of 5 s and the deadline of 30 s are among them."""
KEPT: Final = 1_000
"""How many of the orders that were canceled before the start are looked up, the newest of them."""


class Canceled(NamedTuple):
    """A canceled order that is not known to be compensated. `at`: when it was canceled.

    `counts`: it is in the number of uncompensated orders, and the time to its compensation will be measured. An order
    that was canceled before the start counts only once a look has found it uncompensated.
    """

    reason: str
    at: datetime
    placed_at: datetime
    counts: bool


class Compensations:
    """Knows the canceled orders that are not compensated, and measures how long their compensation takes."""

    def __init__(self, metrics: Metrics) -> None:
        self._durations = metrics.histogram(
            "saga_order_compensation_duration_seconds",
            "Seconds from the cancel of an order to the last fact that gives something back.",
            (*SECONDS, 120, 300),
        )
        self._open: dict[str, Canceled] = {}

    def canceled(self, fact: OrderCanceled) -> None:
        """Remember an order whose cancel was just recorded, unless MOST_OPEN orders are remembered.

        An order that the first step refused counts as compensated after 0 s, and is not remembered.
        """
        if compensated(fact.reason, {REFUSED_BY.get(fact.reason, "")}):
            self._durations.observe(0.0)  # the first step refused: nothing was taken
        elif len(self._open) < MOST_OPEN:
            self._open[fact.order_id] = Canceled(fact.reason, fact.at, fact.order.placed_at, counts=True)

    def found(self, earlier: Mapping[str, Canceled]) -> None:
        """Remember orders that were canceled before the start, by their ids, unless they are remembered already.

        Most of them are compensated. The others count once a look has found them uncompensated: see `Canceled.counts`.
        """
        self._open = {**earlier, **self._open}

    def __len__(self) -> int:
        return len(self._known())

    @property
    def oldest(self) -> datetime | None:
        """The earliest instant at which an uncompensated order was canceled; None if there is no such order."""
        return min((one.at for one in self._known().values()), default=None)

    @property
    def keys(self) -> list[PageKey]:
        """The sort keys of the uncompensated orders, themselves in no particular order."""
        return [PageKey(microseconds(one.placed_at), order_id) for order_id, one in self._known().items()]

    def _known(self) -> dict[str, Canceled]:
        """Return, by order id, the orders that count as uncompensated; see `Canceled.counts`."""
        return {order_id: one for order_id, one in self._open.items() if one.counts}

    async def look(
        self, nc: BrokerClient, streams: Sequence[str], archived: Callable[[str], Awaitable[Iterable[Fact]]]
    ) -> None:
        """Find which of up to MOST remembered orders are compensated; measure those that count, and forget them all.

        `streams`: the stream's generations. `archived` returns the facts of an order, by its id, that the archive has.
        It is called once for each order from before the start that the stream does not show as compensated. Later
        orders do not need it: no generation is archived before all of its orders are compensated. Raises
        HistoryUnavailable if a look-up fails.
        """
        order_ids = list(islice(self._open, MOST))
        for first in range(0, len(order_ids), AT_ONCE):
            wanted = order_ids[first : first + AT_ONCE]
            facts: dict[str, dict[str, datetime]] = {order_id: {} for order_id in wanted}
            subjects = [f"{name}.{order_id}" for order_id in wanted for name in NAMES]
            for message in await latest_messages(nc, subjects, streams):
                name, _, order_id = message.subject.rpartition(".")
                try:
                    facts[order_id][name] = time_of(message.body)
                except DECODE_ERRORS:  # another publisher's message
                    continue
            for order_id, kept in facts.items():
                order = self._open[order_id]
                asks = not order.counts and not _complete(order, kept)
                earlier = {fact_name(type(fact)): fact.at for fact in await archived(order_id)} if asks else {}
                self._judge(order_id, earlier | kept)

    def _judge(self, order_id: str, facts: Mapping[str, datetime]) -> None:
        order = self._open.pop(order_id)
        if not _complete(order, facts):
            self._open[order_id] = order._replace(counts=True)  # to the end: others come first in the next look
        elif order.counts:
            undone = max((at for name, at in facts.items() if name in UNDOING), default=order.at)
            self._durations.observe(max(0.0, (undone - order.at).total_seconds()))


def _complete(order: Canceled, facts: Mapping[str, datetime]) -> bool:
    return compensated(order.reason, facts.keys())  # type: ignore[arg-type]  # newer code may have other reasons
