"""What is remembered of each order: little, and the order itself only until all that was to happen to it has."""

from collections.abc import Iterator
from datetime import datetime
from hashlib import blake2b
from typing import Final, Literal

import msgspec
from msgspec import Struct

from contracts import (
    WITHDRAWALS,
    CouponRestored,
    CouponUsed,
    CouponUseFailed,
    CouponUseVoided,
    Fact,
    Order,
    PointRefunded,
    PointUsed,
    PointUseFailed,
    PointUseVoided,
    ProductReleased,
    ProductReserved,
    ProductReserveFailed,
    ProductReserveVoided,
)
from ops.invariants.memory import Memory

Step = Literal["product", "point", "coupon"]
Turn = Literal["done", "refused", "undone", "fenced"]
Status = Literal["PENDING", "CONFIRMED", "CANCELED"]

STEPS: Final[tuple[Step, ...]] = ("product", "point", "coupon")
"""In the order of the saga."""

TURNS: Final[dict[type[Fact], tuple[Step, Turn]]] = {
    ProductReserved: ("product", "done"),
    ProductReserveFailed: ("product", "refused"),
    ProductReleased: ("product", "undone"),
    ProductReserveVoided: ("product", "fenced"),
    PointUsed: ("point", "done"),
    PointUseFailed: ("point", "refused"),
    PointRefunded: ("point", "undone"),
    PointUseVoided: ("point", "fenced"),
    CouponUsed: ("coupon", "done"),
    CouponUseFailed: ("coupon", "refused"),
    CouponRestored: ("coupon", "undone"),
    CouponUseVoided: ("coupon", "fenced"),
}

UNDONE: Final[dict[Step, str]] = {"product": "stock", "point": "points", "coupon": "coupon"}

Prices = tuple[tuple[int, ...] | None, int | None]
"""Unit prices and their total."""


class Course(Struct, array_like=True):
    """One order as far as its facts have been fed; those of different logs come in any order."""

    status: Status | None = None
    """Null: nothing says that it was accepted."""
    deadline: datetime | None = None
    """Of a pending order."""
    touched: datetime | None = None
    """When the newest of its facts was recorded."""
    reason: str | None = None
    """Why it was canceled."""
    refusal: str | None = None
    """Why a step refused it."""
    product: Turn | None = None
    point: Turn | None = None
    coupon: Turn | None = None
    order: Order | None = None
    """What the customer asked for; null once the course is complete."""
    asked: bytes | None = None
    """Its digest, once the course is complete."""
    prices: Prices | None = None
    discount: int | None = None

    @property
    def turns(self) -> tuple[Turn | None, Turn | None, Turn | None]:
        """What became of each step, in the order of STEPS."""
        return self.product, self.point, self.coupon

    def turn(self, step: Step, turn: Turn) -> Turn | None:
        """Let a step turn, if it may; what it was before."""
        before: Turn | None = getattr(self, step)
        may = before == "done" if turn == "undone" else before is None
        if may:
            setattr(self, step, turn)
        return before

    def agrees_on_order(self, order: Order) -> bool:
        """Whether this is what the order's other facts say the customer asked for."""
        if self.order is None and (self.asked is None or self.asked == digest(order)):
            self.order = order
        return order == self.order

    def agrees_on_prices(self, unit_prices: tuple[int, ...] | None, total: int | None) -> bool:
        """Whether these are the prices that the order's other facts have."""
        if self.prices is None:
            self.prices = (unit_prices, total)
        return self.prices == (unit_prices, total)

    def agrees_on_discount(self, discount: int) -> bool:
        if self.discount is None:
            self.discount = discount
        return discount == self.discount

    def still_takes(self, step: Step, *, quiet: bool) -> int:
        """How often this order's part of a step has to be added to what open and confirmed orders claim.

        Once less for one that is open but has not taken it; once more for one that is canceled but has not given it
        back, which nothing excuses when all is quiet.
        """
        done = getattr(self, step) == "done"
        if self.status == "PENDING" and not done:
            return -1
        return 1 if self.status == "CANCELED" and done and not quiet else 0

    # What is wrong with it --------------------------------------------------------------------------------------------

    def unfit_steps(self, *, quiet: bool) -> list[str]:
        """What of its steps does not fit its end; `quiet`: nothing is to be expected any more."""
        if self.status == "CONFIRMED":
            return [
                f"is confirmed, but its {step} step is {'unanswered' if turn is None else turn}"
                for step, turn in zip(STEPS, self.turns, strict=True)
                if turn != "done"
            ]
        return self._unfit_canceled(quiet=quiet) if self.status == "CANCELED" else []

    def _unfit_canceled(self, *, quiet: bool) -> list[str]:
        found = []
        withdrawn = self.reason in WITHDRAWALS
        if not withdrawn and self.refusal != self.reason:
            found.append(f"is canceled for a reason that no step gave: {self.reason}")
        if not quiet:
            return found
        for step, turn in zip(STEPS, self.turns, strict=True):
            if turn == "done":
                found.append(f"is canceled, but its {UNDONE[step]} never came back")
            elif turn is None and withdrawn:
                found.append(f"is canceled, but its {step} step does not know")
        if not withdrawn and "refused" in self.turns:
            behind = self.turns.index("refused") + 1
            found += [
                f"was refused before its {step} step, which is {turn}"
                for step, turn in zip(STEPS[behind:], self.turns[behind:], strict=True)
                if turn is not None
            ]
        return found

    def broken_chain(self) -> list[str]:
        """Steps that answered an order that was not accepted, or before those they come after."""
        found = []
        if self.status is None:
            found.append("was never accepted, but there are facts about it")
        answered = [turn in ("done", "refused", "undone") for turn in self.turns]
        acted = [turn in ("done", "undone") for turn in self.turns]
        for earlier, later in ((0, 1), (1, 2)):
            if answered[later] and not acted[earlier]:
                found.append(f"its {STEPS[later]} step answered, but its {STEPS[earlier]} step was never done")
        return found

    @property
    def complete(self) -> bool:
        """Whether it has ended, and nothing that is still to come could be missing."""
        if self.status == "CONFIRMED":
            return self.product == self.point == self.coupon == "done"
        return (
            self.status == "CANCELED"
            and "done" not in self.turns
            and not self.unfit_steps(quiet=True)
            and not self.broken_chain()
        )


class Courses:
    """All orders by id: those under way at hand, the complete ones put away."""

    def __init__(self, memory: Memory) -> None:
        self.under_way = memory.few("under_way", Course)
        self._complete = memory.many("complete", Course)

    def get(self, order_id: str) -> Course:
        """Its course, a new one if nothing has been fed of it. To be given back with `put` after a fact."""
        course = self.under_way.get(order_id)
        if course is None:
            course = self._complete.get(order_id) or Course()
            self.under_way[order_id] = course
        return course

    def put(self, order_id: str, course: Course) -> None:
        """Put it away if it is complete."""
        if course.complete:
            if course.order is not None:
                course.asked, course.order = digest(course.order), None
            self._complete[order_id] = course
            del self.under_way[order_id]

    def all(self) -> Iterator[Course]:
        """Each once."""
        yield from self.under_way.values()
        yield from (course for order_id, course in self._complete.items() if order_id not in self.under_way)

    def look(self, order_id: str) -> Course:
        """Its course, only to be looked at."""
        return self.under_way.get(order_id) or self._complete.get(order_id) or Course()


def digest(order: Order) -> bytes:
    return blake2b(msgspec.json.encode(order), digest_size=8).digest()
