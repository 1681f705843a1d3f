"""The course of each order, in little memory. The order itself is kept only until its course is complete."""

from collections.abc import Iterator
from datetime import datetime
from hashlib import blake2b
from typing import Final, Literal

import msgspec
from msgspec import Struct

from contracts import WITHDRAWALS, Fact, Order, OrderConfirmed
from contracts.step import Step
from contracts.wire import STEPS
from ops.invariants.memory import Memory

Turn = Literal["done", "refused", "undone", "fenced"]
CourseStatus = Literal["PENDING", "CONFIRMED", "CANCELED"]


def _turns(step: Step) -> Iterator[tuple[type[Fact], tuple[str, Turn]]]:
    yield step.done, (step.service, "done")
    yield step.undone, (step.service, "undone")
    yield step.fenced, (step.service, "fenced")
    if step.refused is not None:
        yield step.refused, (step.service, "refused")


TURNS: Final[dict[type[Fact], tuple[str, Turn]]] = {
    fact: turn for step in STEPS.awaited + STEPS.following for fact, turn in _turns(step)
}
"""By type of fact: the step that it is about (by its service), and the turn that the step takes."""

AWAITED: Final = tuple(step.service for step in STEPS.awaited)
"""The steps that an order waits for, in the order of the saga."""

FOLLOWING: Final = tuple(step.service for step in STEPS.following)
"""The steps that follow an order's confirmation."""

BEFORE: Final = {
    step.service: next((one.service for one in STEPS.awaited + STEPS.following if one.done is step.hears), None)
    for step in STEPS.awaited + STEPS.following
}
"""By step: the step that causes it; None if the order itself does."""

ON_CONFIRMATION: Final = frozenset(step.service for step in STEPS.following if step.hears is OrderConfirmed)
"""The steps that a confirmation causes."""

Prices = tuple[tuple[int, ...] | None, int | None]
"""The unit prices of an order and their total."""


class Course(Struct, array_like=True):
    """One order, as far as its facts have been fed. Facts of different logs come in any order."""

    status: CourseStatus | None = None
    """Null if no fact says that the order was accepted."""
    deadline: datetime | None = None
    """The deadline of a pending order."""
    touched: datetime | None = None
    """When the newest of its facts was recorded."""
    reason: str | None = None
    """Why it was canceled."""
    refusal: str | None = None
    """Why a step refused it."""
    confirmed: bool = False
    """Whether the order was ever confirmed, also if it was canceled afterwards."""
    turns: dict[str, Turn] = msgspec.field(default_factory=dict)
    """The latest turn of each step, by its service."""
    order: Order | None = None
    """The order as the customer asked for it; null once the course is complete."""
    asked: bytes | None = None
    """The digest of `order`, once the course is complete."""
    prices: Prices | None = None
    discount: int | None = None

    def turn(self, step: str, turn: Turn) -> Turn | None:
        """Let a step take this turn, if it may. Returns the turn that the step had before."""
        before = self.turns.get(step)
        may = before == "done" if turn == "undone" else before is None
        if may:
            self.turns[step] = turn
        return before

    def agrees_on_order(self, order: Order) -> bool:
        """Whether the order's other facts carry the same order."""
        if self.order is None and (self.asked is None or self.asked == digest(order)):
            self.order = order
        return order == self.order

    def agrees_on_prices(self, unit_prices: tuple[int, ...] | None, total: int | None) -> bool:
        """Whether the order's other facts have the same prices."""
        if self.prices is None:
            self.prices = (unit_prices, total)
        return self.prices == (unit_prices, total)

    def agrees_on_discount(self, discount: int) -> bool:
        if self.discount is None:
            self.discount = discount
        return discount == self.discount

    def still_takes(self, step: str, *, quiet: bool) -> int:
        """How often this order's part of a step has to be added to what open and confirmed orders claim.

        -1: the order is open and has not taken its part. 1: the order is canceled and has not given its part back,
        which is excused unless `quiet`. Otherwise 0.
        """
        done = self.turns.get(step) == "done"
        if self.status == "PENDING" and not done:
            return -1
        return 1 if self.status == "CANCELED" and done and not quiet else 0

    # What is wrong with it --------------------------------------------------------------------------------------------

    def unfit_steps(self, *, quiet: bool) -> list[str]:
        """The steps that do not fit the order's end, in words. `quiet`: no further fact is to be expected."""
        if self.status == "CONFIRMED":
            return self._unfit_confirmed()
        return self._unfit_canceled(quiet=quiet) if self.status == "CANCELED" else []

    def _unfit_confirmed(self) -> list[str]:
        """The unfit steps of a confirmed order. A following step may still come, or never, but may not be undone."""
        turns = [(step, self.turns.get(step)) for step in AWAITED]
        turns += [(step, turn) for step in FOLLOWING if (turn := self.turns.get(step)) is not None]
        return [
            f"is confirmed, but its {step} step is {'unanswered' if turn is None else turn}"
            for step, turn in turns
            if turn != "done"
        ]

    def _unfit_canceled(self, *, quiet: bool) -> list[str]:
        withdrawn = self.reason in WITHDRAWALS
        found = []
        if not withdrawn and self.refusal != self.reason:
            found.append(f"is canceled for a reason that no step gave: {self.reason}")
        if not quiet:
            return found
        for step in AWAITED + FOLLOWING:
            turn = self.turns.get(step)
            if turn == "done":
                found.append(f"is canceled, but its {step} step was never undone")
            elif turn is None and withdrawn and step in AWAITED:
                found.append(f"is canceled, but its {step} step does not know")
        if not withdrawn:
            found += [
                f"was refused before its {step} step, which is {self.turns[step]}"
                for step in self._behind_refusal()
                if step in self.turns
            ]
        return found

    def _behind_refusal(self) -> list[str]:
        """The awaited steps that come after the one that refused the order."""
        refusing = [step for step in AWAITED if self.turns.get(step) == "refused"][:1]
        reached_from = set(refusing)
        for step in AWAITED:
            if BEFORE[step] in reached_from:
                reached_from.add(step)
        return [step for step in AWAITED if step in reached_from and step not in refusing]

    def broken_chain(self) -> list[str]:
        """Steps that answered an order that was not accepted, or that answered before an earlier step was done."""
        found = []
        if self.status is None:
            found.append("was never accepted, but there are facts about it")
        for step, turn in self.turns.items():
            earlier = BEFORE[step]
            if turn == "fenced":
                continue
            if earlier is not None and self.turns.get(earlier) not in ("done", "undone"):
                found.append(f"its {step} step answered, but its {earlier} step was never done")
            elif step in ON_CONFIRMATION and not self.confirmed:
                found.append(f"its {step} step answered, but the order was never confirmed")
        return found

    @property
    def complete(self) -> bool:
        """Whether the order has ended and the facts fed so far lack nothing."""
        if self.status == "CONFIRMED":
            return not self._unfit_confirmed()
        return (
            self.status == "CANCELED"
            and "done" not in self.turns.values()
            and not self.unfit_steps(quiet=True)
            and not self.broken_chain()
        )


class Courses:
    """All orders by id: `in_flight` those that are not complete, the others in a table of the memory."""

    def __init__(self, memory: Memory) -> None:
        self.in_flight = memory.few("in_flight", Course)
        self._complete = memory.many("complete", Course)

    def get(self, order_id: str) -> Course:
        """The order's course, or a new one if none of its facts has been fed. Call `put` after a fact changed it."""
        course = self.in_flight.get(order_id)
        if course is None:
            course = self._complete.get(order_id) or Course()
            self.in_flight[order_id] = course
        return course

    def put(self, order_id: str, course: Course) -> None:
        """Move the course to the table if it is complete."""
        if course.complete:
            if course.order is not None:
                course.asked, course.order = digest(course.order), None
            self._complete[order_id] = course
            del self.in_flight[order_id]

    def all(self) -> Iterator[Course]:
        """Every course, once."""
        yield from self.in_flight.values()
        yield from (course for order_id, course in self._complete.items() if order_id not in self.in_flight)

    def look(self, order_id: str) -> Course:
        """The order's course, for reading only."""
        return self.in_flight.get(order_id) or self._complete.get(order_id) or Course()


def digest(order: Order) -> bytes:
    return blake2b(msgspec.json.encode(order), digest_size=8).digest()
