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
"""The steps that follow an order's confirmation, in the order of the saga."""

BEFORE: Final = {
    step.service: next((one.service for one in STEPS.awaited + STEPS.following if one.done is step.hears), None)
    for step in STEPS.awaited + STEPS.following
}
"""Step → the step whose `done` starts it; None: a fact of the order starts it."""

ON_CONFIRMATION: Final = frozenset(step.service for step in STEPS.following if step.hears is OrderConfirmed)
"""The steps that `order.confirmed` itself starts."""

Prices = tuple[tuple[int, ...] | None, int | None]
"""The unit prices of an order's lines, in the order of the lines, and the order's total, in won; null: not known."""


class Course(Struct, array_like=True):
    """What the checker knows of one order by the facts fed so far. Facts of different logs may come in any order."""

    status: CourseStatus | None = None
    """Null: no fact says that the order was accepted."""
    deadline: datetime | None = None
    """The deadline of a pending order; null: the order has ended, or was not accepted."""
    touched: datetime | None = None
    """When the newest of the order's facts was recorded; null: none has been fed."""
    reason: str | None = None
    """Why the order was canceled; null: it was not."""
    refusal: str | None = None
    """The reason of the first step that refused the order; null: no step did."""
    confirmed: bool = False
    """Whether the order was ever confirmed, also if it was canceled afterwards."""
    turns: dict[str, Turn] = msgspec.field(default_factory=dict)
    """Step, by its service → its latest turn. A step without a turn is missing."""
    order: Order | None = None
    """The order as the customer asked for it; null: no fact has been fed, or the course is complete."""
    asked: bytes | None = None
    """The digest of `order`, kept once the course is complete; null before."""
    prices: Prices | None = None
    discount: int | None = None

    def turn(self, step: str, turn: Turn) -> Turn | None:
        """Let a step take this turn, and return the turn that it had before; None: it had none.

        A step can be undone only after `done`, and take any other turn only as its first. Otherwise its turn stays.
        """
        before = self.turns.get(step)
        may = before == "done" if turn == "undone" else before is None
        if may:
            self.turns[step] = turn
        return before

    def agrees_on_order(self, order: Order) -> bool:
        """Return whether the facts fed earlier carry the same order. True for the first, which is remembered."""
        if self.order is None and (self.asked is None or self.asked == digest(order)):
            self.order = order
        return order == self.order

    def agrees_on_prices(self, unit_prices: tuple[int, ...] | None, total: int | None) -> bool:
        """Return whether the facts fed earlier have the same prices; True for the first ones, which are remembered.

        `unit_prices` in the order of the lines, and `total`: in won; None: not known.
        """
        if self.prices is None:
            self.prices = (unit_prices, total)
        return self.prices == (unit_prices, total)

    def agrees_on_discount(self, discount: int) -> bool:
        if self.discount is None:
            self.discount = discount
        return discount == self.discount

    def still_takes(self, step: str, *, quiet: bool) -> int:
        """Return how often the order's part of a step must be added to what pending and confirmed orders claim.

        -1: the order is pending and does not hold its part: not yet, or not any more. 1: the order is canceled, still
        holds its part, and may give it back, as it is not `quiet`. Otherwise 0.
        """
        done = self.turns.get(step) == "done"
        if self.status == "PENDING" and not done:
            return -1
        return 1 if self.status == "CANCELED" and done and not quiet else 0

    # What is wrong with it --------------------------------------------------------------------------------------------

    def unfit_steps(self, *, quiet: bool) -> list[str]:
        """Describe what does not fit the order's end, one text for each flaw; empty: all fits, or there is no end yet.

        `quiet`: no further fact is to be expected, so a missing compensation is a flaw, too.
        """
        if self.status == "CONFIRMED":
            return self._unfit_confirmed()
        return self._unfit_canceled(quiet=quiet) if self.status == "CANCELED" else []

    def _unfit_confirmed(self) -> list[str]:
        """Describe the steps that do not fit a confirmed order: every step that it waited for must be done.

        A step that follows the confirmation may be missing, because it may still come, or never. If it has a turn, it
        must be done.
        """
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
        """Return the awaited steps that the refusing step, if any, would have led to, directly or not."""
        refusing = [step for step in AWAITED if self.turns.get(step) == "refused"][:1]
        reached_from = set(refusing)
        for step in AWAITED:
            if BEFORE[step] in reached_from:
                reached_from.add(step)
        return [step for step in AWAITED if step in reached_from and step not in refusing]

    def broken_chain(self) -> list[str]:
        """Describe what the facts fed so far lack, one text for each flaw; empty: nothing.

        The order must be accepted, even if its only fact is a fence. A step's answer also needs the step before done
        (maybe undone since). An answer of a step that the confirmation starts needs the order confirmed.
        """
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
        """Whether the order has ended and its steps fit the end, so that no further fact is needed."""
        if self.status == "CONFIRMED":
            return not self._unfit_confirmed()
        return (
            self.status == "CANCELED"
            and "done" not in self.turns.values()
            and not self.unfit_steps(quiet=True)
            and not self.broken_chain()
        )


class Courses:
    """Keeps the courses of all orders by order id: incomplete ones in `in_flight`, complete ones in a table."""

    def __init__(self, memory: Memory) -> None:
        self.in_flight = memory.few("in_flight", Course)
        self._complete = memory.many("complete", Course)

    def get(self, order_id: str) -> Course:
        """Return the order's course for a change; a new one if none of its facts has been fed. Call `put` after the
        change.

        At least until then the course is in `in_flight`.
        """
        course = self.in_flight.get(order_id)
        if course is None:
            course = self._complete.get(order_id) or Course()
            self.in_flight[order_id] = course
        return course

    def put(self, order_id: str, course: Course) -> None:
        """Move the course from `in_flight` to the table of complete ones if it is complete; otherwise do nothing."""
        if course.complete:
            if course.order is not None:
                course.asked, course.order = digest(course.order), None
            self._complete[order_id] = course
            del self.in_flight[order_id]

    def all(self) -> Iterator[Course]:
        """Yield every course once, for reading only."""
        yield from self.in_flight.values()
        yield from (course for order_id, course in self._complete.items() if order_id not in self.in_flight)

    def look(self, order_id: str) -> Course:
        """Return the order's course, for reading only. It is a new one, which is not kept, if no fact has been fed."""
        return self.in_flight.get(order_id) or self._complete.get(order_id) or Course()


def digest(order: Order) -> bytes:
    return blake2b(msgspec.json.encode(order), digest_size=8).digest()
