"""A step of the saga: which facts say that a service did its part of an order, refused it, undid it or fenced it.

A service that takes a step declares it once, below its facts in `contracts/<service>.py`. The order's read model,
the audit, the simulator and the flow derive from the declaration the facts that they expect.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from contracts.fact import Fact, SagaFact
from contracts.order import OrderConfirmed, OrderCreatedPending


class Step(NamedTuple):
    """One service's work for an order, described by the facts it says.

    An order waits for the steps before `order.confirmed`. A step that hears `order.confirmed`, or a later one, is a
    following step. The order does not wait for it, and it cannot refuse.
    """

    hears: type[SagaFact]
    """The fact that starts the step: `order.created.pending`, `order.confirmed`, or another step's `done`."""
    done: type[SagaFact]
    undone: type[SagaFact]
    """The compensation."""
    fenced: type[SagaFact]
    """The order was canceled before this step was done; now it will never be done."""
    refused: type[SagaFact] | None = None
    returned: tuple[type[Fact], ...] = ()
    """Facts of the service's other streams that also take something back; they are recorded together with `undone`."""

    @property
    def service(self) -> str:
        """The service that takes this step; it is also the step's name."""
        return fact_name(self.done).partition(".")[0]

    @property
    def says(self) -> tuple[type[SagaFact], ...]:
        """All facts that the service may say about this step."""
        facts = (self.done, self.refused, self.undone, self.fenced)
        return tuple(fact for fact in facts if fact is not None)


class Steps(NamedTuple):
    """All steps in two parts, before and after `order.confirmed`, each in the order in which an order reaches them."""

    awaited: tuple[Step, ...]
    """The steps before `order.confirmed`."""
    following: tuple[Step, ...]
    """The steps after `order.confirmed`."""


def fact_name(fact: type[Fact]) -> str:
    return str(fact.__struct_config__.tag)


def in_order(declared: Iterable[Step]) -> Steps:
    """The steps in the order in which an order reaches them; steps that hear the same fact are sorted by name.

    Raises TypeError for a step that no order can reach, and a second step of one service. Also for a fact of another
    service, and a step that could refuse a confirmed order.
    """
    steps = sorted(declared, key=lambda step: step.service)
    found = Steps(tuple(_behind(OrderCreatedPending, steps)), tuple(_behind(OrderConfirmed, steps)))
    services = [step.service for step in steps]
    for step in steps:
        if services.count(step.service) > 1:
            raise TypeError(f"{step.service}_svc declares more than one step")
        if any(fact_name(fact).partition(".")[0] != step.service for fact in (*step.says, *step.returned)):
            raise TypeError(f"the step of {step.service}_svc has facts of another service")
        if step not in found.awaited + found.following:
            raise TypeError(f"the step of {step.service}_svc hears {fact_name(step.hears)}: no order gets there")
        if step in found.following and step.refused is not None:
            raise TypeError(f"the step of {step.service}_svc could refuse an order that is confirmed")
    return found


def _behind(start: type[SagaFact], steps: Iterable[Step]) -> Iterator[Step]:
    facts = [start]
    for fact in facts:
        for step in steps:
            if step.hears is fact:
                facts.append(step.done)
                yield step
