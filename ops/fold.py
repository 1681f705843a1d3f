"""Folds history, read from the services' logs or from EVENTS, with the services' own aggregates, from the first fact.

From the states it derives the answers that the services should give.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import order_svc.domain
from contracts import OrderConfirmed
from contracts.wire import decode
from infra.core.decider import Aggregates, StreamState, category
from infra.local.services import service_names
from ops.invariants import CouponSeen, Live, LogEntry, Message, OrderSeen, ProductSeen


def aggregates() -> Aggregates:
    """Import all services and return their aggregates, by category of streams, as the services run them."""
    return {
        name: aggregate
        for service in service_names()
        for name, aggregate in import_module(f"{service}_svc.__main__").SERVICE.aggregates.items()
    }


class Fold:
    """Folds facts into the states of their streams: `states`, by stream.

    `take` accepts facts in any order, any number of times; each is folded once, in the order of its stream's versions.
    A fact that older code recorded in another stream is folded into that stream's state and its present stream's; it
    has to be taken before the facts of the present stream. `take` raises what `decode` and the aggregates raise.
    """

    def __init__(self, aggregates: Aggregates) -> None:
        self._aggregates = aggregates
        self.states: dict[str, StreamState] = {}
        self.early: dict[str, dict[int, bytes]] = {}
        """By stream and version: bodies of facts that wait for an earlier version. Empty if no version is missing."""

    def take(self, stream: str, version: int, body: bytes) -> None:
        head = self.states.get(stream)
        if head is None:
            head = self.states[stream] = StreamState(0, self._aggregates[category(stream)].state())
        if version > head.version + 1:
            self.early.setdefault(stream, {})[version] = body
        elif version == head.version + 1:
            self._fold(stream, head, body)
            self._catch_up(stream, head)

    def _fold(self, stream: str, head: StreamState, body: bytes) -> None:
        fact = decode(body)
        self._aggregates[category(stream)].evolve(head.state, fact)
        head.version += 1
        if fact.stream != stream:
            today = self.states.setdefault(fact.stream, StreamState(0, self._aggregates[category(fact.stream)].state()))
            self._aggregates[category(fact.stream)].evolve(today.state, fact)

    def _catch_up(self, stream: str, head: StreamState) -> None:
        waiting = self.early.get(stream)
        while waiting and head.version + 1 in waiting:
            self._fold(stream, head, waiting.pop(head.version + 1))
        if waiting == {}:
            del self.early[stream]


def folded_logs(logs: Iterable[Iterable[LogEntry]], aggregates: Aggregates) -> Fold:
    """Fold the services' logs; return the Fold, which has the states of all their streams."""
    fold = Fold(aggregates)
    for log in logs:
        for _, stream, version, body in log:
            fold.take(stream, version, body)
    return fold


def folded_stream(messages: Iterable[Message], aggregates: Aggregates) -> Fold:
    """Fold messages of EVENTS, without the services' logs; return the Fold, which has the states of all their streams.

    Each message must have the id of its fact.
    """
    fold = Fold(aggregates)
    for _, fact_id, body in messages:
        stream, _, version = fact_id.rpartition("@")
        fold.take(stream, int(version), body)
    return fold


def live(fold: Fold) -> Live:
    """Return the answers that the services should give, by the states in `fold`.

    They are by id: each product, balance, coupon and order. Products that were never registered and coupons that were
    never issued are left out.
    """
    by_category: dict[str, dict[str, Any]] = {}
    for stream, head in fold.states.items():
        name, _, key = stream.partition("-")
        by_category.setdefault(name, {})[key] = head.state
    states = by_category.get
    return Live(
        products={
            key: ProductSeen(state.price, state.available)
            for key, state in states("product", {}).items()
            if state.name is not None
        },
        balances={key: state.balance for key, state in states("account", {}).items()},
        coupons={
            key: CouponSeen(state.user_id, state.discount, state.order_id)
            for key, state in states("coupon", {}).items()
            if state.user_id is not None
        },
        orders={key: _order(state) for key, state in states("order", {}).items()},
    )


def _order(state: order_svc.domain.State) -> OrderSeen:
    status, end = state.status or "unknown", state.first_end
    if end is None:
        return OrderSeen(status, state.reason, None, None, None)
    due = end.amount_due if isinstance(end, OrderConfirmed) else None
    return OrderSeen(status, state.reason, end.total, end.discount, due)
