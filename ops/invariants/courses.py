"""What is remembered of each order: little, and the order itself only until it is settled."""

from datetime import datetime
from typing import Final, Literal

from contracts import (
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


class Course:
    """One order as far as its facts have been fed; those of different logs come in any order."""

    __slots__ = (
        "asked",
        "coupon",
        "deadline",
        "discount",
        "order",
        "point",
        "prices",
        "product",
        "reason",
        "refusal",
        "status",
    )

    def __init__(self) -> None:
        self.status: Status | None = None
        """Null: nothing says that it was accepted."""
        self.deadline: datetime | None = None
        """Of a pending order."""
        self.reason: str | None = None
        """Why it was canceled."""
        self.refusal: str | None = None
        """Why a step refused it."""
        self.product: Turn | None = None
        self.point: Turn | None = None
        self.coupon: Turn | None = None
        self.asked: int | None = None
        """Digest of what the customer asked for."""
        self.prices: int | None = None
        """Digest of its unit prices and their total."""
        self.discount: int | None = None
        self.order: Order | None = None
        """Null once the order is settled."""

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

    def keep(self, order: Order) -> None:
        """Remember the order while balances may depend on it: it is open, or not all it took is where it belongs."""
        done = self.turns.count("done")
        settled = (self.status == "CONFIRMED" and done == len(STEPS)) or (self.status == "CANCELED" and done == 0)
        self.order = None if settled else order

    def agrees_on_order(self, order: Order) -> bool:
        """Whether this is what the order's other facts say the customer asked for."""
        asked = hash(order)
        if self.asked is None:
            self.asked = asked
        return asked == self.asked

    def agrees_on_prices(self, unit_prices: tuple[int, ...] | None, total: int | None) -> bool:
        """Whether these are the prices that the order's other facts have."""
        prices = hash((unit_prices, total))
        if self.prices is None:
            self.prices = prices
        return prices == self.prices

    def agrees_on_discount(self, discount: int) -> bool:
        if self.discount is None:
            self.discount = discount
        return discount == self.discount

    def still_takes(self, step: Step, *, quiet: bool) -> int:
        """How often this unsettled order's part of a step has to be added to what open and confirmed orders claim.

        Once less for one that is open but has not taken it; once more for one that is canceled but has not given it
        back, which nothing excuses when all is quiet.
        """
        done = getattr(self, step) == "done"
        if self.status == "PENDING" and not done:
            return -1
        return 1 if self.status == "CANCELED" and done and not quiet else 0


Courses = dict[str, Course]
"""By order id."""
