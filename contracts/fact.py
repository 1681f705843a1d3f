"""The base classes of facts: every fact has its instant and its cause; facts of an order's saga also carry the order.

These types are both the storage format and the wire format. Fields are only ever added, and only with defaults; names
never change. A change that this rule does not allow needs a new fact, and the old one stays readable.

Facts inherit `gc=False`. They repeat `frozen=True`, which they inherit too, because mypy refuses a subclass that does
not; `kw_only=True` is not inherited.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal, assert_never, get_args

from msgspec import DecodeError, Meta, Struct, json

ProductRefusal = Literal["product-out-of-stock", "product-unknown"]
PointRefusal = Literal["points-insufficient", "points-exceed-total"]
CouponRefusal = Literal["coupon-unknown", "coupon-already-used", "coupon-expired", "coupon-not-yours"]
Refusal = ProductRefusal | PointRefusal | CouponRefusal
Withdrawal = Literal["deadline-exceeded", "customer-canceled"]
Reason = Refusal | Withdrawal

DECODE_ERRORS: Final = (DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a body that anybody may have written: its own error; for a text that is not UTF-8, and for
nesting that is too deep, Python's.
"""

MOST = 2**53 - 1
"""The largest amount, sum or stock that the services record: JSON numbers are exact up to here in every reader."""

Count = Annotated[int, Meta(ge=0, le=MOST)]
"""A number of pieces, points or won. `decode` refuses one below 0 or above MOST."""
Timestamp = Annotated[datetime, Meta(tz=True)]
"""A time with its offset from UTC. `decode` refuses one without: it cannot be compared with the others."""

REASONS: Final[tuple[Reason, ...]] = tuple(reason for kind in get_args(Reason) for reason in get_args(kind))
"""Every Reason."""

WITHDRAWALS: Final[frozenset[str]] = frozenset(get_args(Withdrawal))
"""The reasons of cancels that no step's refusal led to: the steps learn of these cancels only from `order.canceled`."""


def by_customer(reason: Reason) -> bool:
    """Return whether a cancel for this reason is the customer's.

    Only such a cancel may come after a confirmation, and it has no fact as its cause. mypy refuses this module as long
    as a Reason is missing here.
    """
    match reason:
        case "customer-canceled":
            return True
        case "deadline-exceeded":
            return False
        case "product-out-of-stock" | "product-unknown" | "points-insufficient" | "points-exceed-total":
            return False
        case "coupon-unknown" | "coupon-already-used" | "coupon-expired" | "coupon-not-yours":
            return False
        case _:
            assert_never(reason)


BY_CUSTOMER: Final[frozenset[str]] = frozenset(reason for reason in REASONS if by_customer(reason))
"""The reasons for which `by_customer` is true."""


class Fact(Struct, frozen=True, kw_only=True, gc=False, tag_field="type"):
    """Base of all facts. A fact is something that happened, named in the past tense.

    `at` is the instant (UTC) at which the service decided it. `cause` is the id of the fact that led to it; null if a
    client's request did, and no fact.
    """

    key_field: ClassVar[str]
    """The name of the field whose value is the last token of the published subject, such as `order_id`."""
    by_client: ClassVar[bool] = False
    """Whether a client's request can cause this fact: only such a fact may have no `cause`."""
    implied: ClassVar[bool] = False
    """Whether older code recorded no such fact, but only the answer recorded with it today, in this fact's stream."""

    at: Timestamp
    cause: str | None = None

    @property
    def stream(self) -> str:
        """The name of the event stream (aggregate) that this fact is part of: `<category>-<id>`.

        Each kind of fact overrides this; the base class raises TypeError.
        """
        raise TypeError(f"{type(self).__name__} does not define the event stream that it belongs to")

    @property
    def earlier_stream(self) -> str:
        """The stream in which older code recorded this fact: `stream`, unless this kind of fact has moved since.

        What is recorded stays where it is. So wherever a record or message names its stream, that stream counts.
        """
        return self.stream


class Line(Struct, frozen=True, gc=False):
    """One line of an order: `quantity` pieces of one product."""

    product_id: str
    quantity: Count


class Order(Struct, frozen=True, gc=False):
    """What a customer ordered. Every SagaFact carries the order, so that no service has to ask another.

    `points`: how many to use, 0 for none. `coupon_id`: null without a coupon. `placed_at`: the instant (UTC) at which
    order_svc took the request.
    """

    user_id: str
    lines: tuple[Line, ...]
    points: Count
    coupon_id: str | None
    placed_at: Timestamp


class SagaFact(Fact, frozen=True, kw_only=True):
    """Base of the facts about an order's saga. The published subject ends in the order's id, as `wire.token` has it."""

    key_field: ClassVar[str] = "order_id"

    order_id: str
    order: Order


class PricedFact(SagaFact, frozen=True, kw_only=True):
    """Base of the facts that always carry the prices of the order's products. An OrderCanceled may carry them, too.

    `unit_prices`: won per piece, in the order of `order.lines`. `total`: the sum of the lines, price times quantity, in
    won, before points and discount.
    """

    unit_prices: tuple[Count, ...]
    total: Count


class _Timed(Struct, gc=False):
    at: Timestamp


_timed: Final = json.Decoder(_Timed).decode


def time_of(body: bytes) -> datetime:
    """Return the instant (`at`) of the fact in this body, also of a fact of newer code.

    Raises one of DECODE_ERRORS if the body is not JSON, or has no `at` with an offset from UTC.
    """
    return _timed(body).at
