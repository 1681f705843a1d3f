"""Computes which service an in-flight order waits for, and since when, from the facts about it that are in EVENTS.

The steps in contracts/ say which fact a service hears and which facts answer it, so a step of a new service is named,
too. A service that is slow answers other orders meanwhile; one that is dead, paused or cut off answers none.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from contracts import OrderCanceled, OrderConfirmed, OrderCreatedPending
from contracts.step import Steps, fact_name
from contracts.wire import STEPS, said_by

ENDS: Final = frozenset({fact_name(OrderConfirmed), fact_name(OrderCanceled)})
OWN: Final = said_by(fact_name(OrderCreatedPending))
"""The service that ends an order whose steps have all answered."""


class PublishedAt(NamedTuple):
    """A fact that is in EVENTS: its sequence there, and the instant at which its service decided it."""

    sequence: int
    at: datetime


Facts = Mapping[str, PublishedAt]
"""The facts about one order that are in EVENTS, by name."""


class Unanswered(NamedTuple):
    """A service that has answered nothing since an order reached it at `since`; `orders` wait for it in all."""

    service: str
    since: datetime
    orders: int

    def text(self, now: datetime) -> str:
        """Return a sentence for people; the date of `since` is left out if it is that of `now` (UTC)."""
        form = "%H:%M:%S UTC" if self.since.date() == now.date() else "%Y-%m-%d %H:%M:%S UTC"
        orders = "1 order waits" if self.orders == 1 else f"{self.orders} orders wait"
        return f"{self.service}_svc has not answered since {self.since:{form}}; {orders} for it"


def names(steps: Steps = STEPS) -> list[str]:
    """Return the names of the facts about an order that `waits_for` and `unanswered` go by."""
    said = [fact_name(fact) for step in steps.awaited for fact in step.says]
    return [fact_name(OrderCreatedPending), *said, *sorted(ENDS)]


def waits_for(facts: Facts, steps: Steps = STEPS) -> dict[str, PublishedAt]:
    """Return, by name of a service that one order waits for, the fact that the service has not answered yet.

    Names are without `_svc`. `facts` are the order's. Empty for an order that has ended or has no published facts. An
    order that a step refused, or that all its steps have answered, waits for order_svc to end it. The fact is then the
    first refusal or, without one, the order's last fact.
    """
    if not facts or not ENDS.isdisjoint(facts):
        return {}
    refusals = [facts[name] for step in steps.awaited if step.refused and (name := fact_name(step.refused)) in facts]
    if refusals:
        return {OWN: min(refusals)}
    found = {
        step.service: heard
        for step in steps.awaited
        if (heard := facts.get(fact_name(step.hears))) is not None
        and not any(fact_name(answer) in facts for answer in step.says)
    }
    return found or {OWN: max(facts.values())}


def unanswered(
    facts: Mapping[str, Facts], in_flight: Collection[str], until: datetime, steps: Steps = STEPS
) -> list[Unanswered]:
    """Return each service that at least one waiting order of `in_flight` reached after the service's last answer.

    `since`: the instant of the fact by which the first of these orders reached the service; if that is later than
    `until`, the service is left out. `orders` counts all orders that wait for the service. `facts` are by order id;
    those of orders not in `in_flight` count as answers only. Sequences in EVENTS decide what is first, last or after,
    so clocks that differ do not change that; but `since` is by the clock of the service that said the fact.
    """
    waiting: dict[str, list[PublishedAt]] = {}
    answered: dict[str, int] = {}
    for order_id, published in facts.items():
        for name, fact in published.items():
            if name != fact_name(OrderCreatedPending):
                answered[said_by(name)] = max(fact.sequence, answered.get(said_by(name), 0))
        if order_id in in_flight:
            for service, heard in waits_for(published, steps).items():
                waiting.setdefault(service, []).append(heard)
    return [
        Unanswered(service, min(since).at, len(heard))
        for service, heard in waiting.items()
        if (since := [fact for fact in heard if fact.sequence > answered.get(service, 0)]) and min(since).at <= until
    ]


def spread(facts: Mapping[str, Facts], in_flight: Collection[str], steps: Steps = STEPS) -> dict[str, int]:
    """Return, by service, how many of the orders in both `facts` and `in_flight` wait for it; most orders first."""
    counts: dict[str, int] = {}
    for order_id, published in facts.items():
        for service in waits_for(published, steps) if order_id in in_flight else ():
            counts[service] = counts.get(service, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
