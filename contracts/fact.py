"""The base classes of facts: every fact has its instant and its cause; facts of an order also carry the order.

These types are both the storage format and the wire format. Fields are only ever added, and only with defaults; names
never change. A change that this rule does not allow is a new fact, with an upcaster for the old one.

Facts inherit `gc=False`. They repeat `frozen=True`, which they inherit too, because mypy refuses a subclass that does
not; `kw_only=True` is not inherited.
"""

from datetime import datetime
from typing import ClassVar, Literal

from msgspec import Struct

ProductRefusal = Literal["product-out-of-stock", "product-unknown"]
PointRefusal = Literal["points-insufficient", "points-exceed-total"]
CouponRefusal = Literal["coupon-unknown", "coupon-already-used", "coupon-expired", "coupon-not-yours"]
Refusal = ProductRefusal | PointRefusal | CouponRefusal
Withdrawal = Literal["deadline-exceeded", "customer-canceled"]
Reason = Refusal | Withdrawal

MOST = 2**53 - 1
"""The largest amount, sum or stock: JSON numbers are exact up to here in every reader."""

WITHDRAWALS: frozenset[str] = frozenset({"deadline-exceeded", "customer-canceled"})
"""Reasons that no step gave: the steps learn of them only from `order.canceled`."""


class Fact(Struct, frozen=True, kw_only=True, gc=False, tag_field="type"):
    """Something that happened, in the past tense.

    `at` is the instant (UTC) at which the service recorded it; `cause` is the id of the fact it answers, null when a
    client's request, and no fact, caused it.
    """

    key_field: ClassVar[str]
    """The field whose value is the last token of the published subject."""
    by_client: ClassVar[bool] = False
    """Whether a client's request can cause this fact: only such a fact may have no `cause`."""

    at: datetime
    cause: str | None = None

    @property
    def stream(self) -> str:
        """The event stream (aggregate) that this fact is part of: `<category>-<id>`."""
        raise TypeError(f"{type(self).__name__} does not define the event stream that it belongs to")


class Line(Struct, frozen=True, gc=False):
    """One line of an order: `quantity` pieces of one product."""

    product_id: str
    quantity: int


class Order(Struct, frozen=True, gc=False):
    """A customer's order. Every fact of the saga carries it, so that no service has to ask another.

    `points`: how many to use, 0 for none. `coupon_id`: null without a coupon. `placed_at`: the instant the order was
    accepted.
    """

    user_id: str
    lines: tuple[Line, ...]
    points: int
    coupon_id: str | None
    placed_at: datetime


class SagaFact(Fact, frozen=True, kw_only=True):
    """A fact about one order. The order's id is the last token of its published subject."""

    key_field: ClassVar[str] = "order_id"

    order_id: str
    order: Order


class PricedFact(SagaFact, frozen=True, kw_only=True):
    """A fact said after the products were priced: `unit_prices` in won, in the order of `order.lines`, and `total`."""

    unit_prices: tuple[int, ...]
    total: int
