"""Steps of the saga: which facts say that a service did its part of an order, refused it, undid it or fenced it.

A service that takes a step declares a Step once, below its facts in `contracts/<service>.py`. From the declarations
`GET /orders/{id}`, the audit and `orders flow` derive the facts that they expect.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from contracts.fact import Fact, SagaFact
from contracts.order import OrderConfirmed, OrderCreatedPending


class Step(NamedTuple):
    """One service's work for an order, described by the fact that starts the work and the facts that answer it.

    An order is confirmed after its awaited steps. A following step starts with `order.confirmed`, or with the `done` of
    another following step. The order does not wait for a following step, and a following step cannot refuse.
    """

    hears: type[SagaFact]
    """The fact that starts the step: `order.created.pending`, `order.confirmed`, or another step's `done`."""
    done: type[SagaFact]
    undone: type[SagaFact]
    """The compensation: the service gave back what `done` took."""
    fenced: type[SagaFact]
    """The service heard that the order is over before it answered `hears`: it will never do this step for the order."""
    refused: type[SagaFact] | None = None
    returned: tuple[type[Fact], ...] = ()
    """Facts of the service's other streams that also give something back; they are recorded together with `undone`."""

    @property
    def service(self) -> str:
        """The name of the service that takes this step, without `_svc`, such as `point`. It also names the step."""
        return fact_name(self.done).partition(".")[0]

    @property
    def says(self) -> tuple[type[SagaFact], ...]:
        """The types of `done`, `refused` (if any), `undone` and `fenced`; not those of `returned`."""
        facts = (self.done, self.refused, self.undone, self.fenced)
        return tuple(fact for fact in facts if fact is not None)


class Steps(NamedTuple):
    """All steps in two parts, before and after `order.confirmed`; each part in the order of the saga."""

    awaited: tuple[Step, ...]
    """The steps before `order.confirmed`."""
    following: tuple[Step, ...]
    """The steps after `order.confirmed`."""


def fact_name(fact: type[Fact]) -> str:
    return str(fact.__struct_config__.tag)


def in_order(declared: Iterable[Step]) -> Steps:
    """Return the steps in their two parts, in the order in which orders reach them.

    Steps that hear the same fact are sorted by the names of their services.

    Raises TypeError for a step that no order can reach, that has a fact of another service (except in `hears`), or that
    follows and has `refused`; and for two steps of one service.
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
                if step.done not in facts:
                    facts.append(step.done)
                yield step
