"""An example of every fact. The written ones are of one order: Ann buys two mugs and a lamp with points and a coupon.

A fact that no example is written for, such as those of a new service, gets one from its type.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, get_args, get_origin

from msgspec.structs import fields, replace

from contracts import Fact, Order, PointUsed
from contracts.wire import FACTS, NAMES, decode, encode
from tests import examples as e
from tests.examples import BASKET, CUSTOMER, LAMP, ORDER_ID, PLACED_AT

AT = PLACED_AT + timedelta(milliseconds=125)

CREATED = f"order-{ORDER_ID}@1"
RESERVED = f"reservation-{ORDER_ID}@1"
USED = f"account-{CUSTOMER}@2"
COUPON = f"coupon-{e.COUPON}@2"
CANCELED = f"order-{ORDER_ID}@2"


def said(fact: Fact, cause: str | None = None) -> Fact:
    return replace(fact, at=AT, cause=cause)


WRITTEN: tuple[Fact, ...] = (
    replace(e.order_created(BASKET), at=PLACED_AT),
    said(e.order_confirmed(BASKET), COUPON),
    said(e.with_amounts(e.order_canceled("customer-canceled", BASKET), e.order_confirmed(BASKET))),
    said(replace(e.product_registered(), name="머그컵")),
    said(e.stock_added(100, key="delivery-7")),
    said(e.stock_received(100, "delivery-7")),
    said(e.stock_held(), CREATED),
    said(e.stock_returned(), CANCELED),
    said(e.product_reserved(BASKET), CREATED),
    said(e.reserve_failed("product-out-of-stock", LAMP, BASKET), CREATED),
    said(e.product_released(BASKET), CANCELED),
    said(e.reserve_voided(BASKET), CANCELED),
    said(e.charged(5_000, "transfer-1")),
    said(e.deposited(5_000, "transfer-1")),
    said(e.debited(BASKET), RESERVED),
    said(e.credited(BASKET), CANCELED),
    said(e.points_used(BASKET), RESERVED),
    said(e.use_of_points_failed("points-insufficient", BASKET), RESERVED),
    said(e.points_refunded(BASKET), CANCELED),
    said(e.use_of_points_voided(BASKET), CANCELED),
    said(e.coupon_issued()),
    said(e.coupon_held(BASKET), USED),
    said(e.coupon_returned(BASKET), CANCELED),
    said(e.coupon_used(BASKET), USED),
    said(e.use_of_coupon_failed("coupon-expired", BASKET), USED),
    said(e.coupon_restored(BASKET), CANCELED),
    said(e.use_of_coupon_voided(BASKET), CANCELED),
)


def made(fact: type[Fact]) -> Fact:
    """An example of this type of fact: of Ann's order, with its defaults, and a small value where there is none."""
    known = {"at": AT, "cause": CREATED, "order_id": ORDER_ID, "order": BASKET, "user_id": CUSTOMER}
    small: dict[object, object] = {str: "text", int: 1, float: 1.0, bool: True, datetime: AT}
    values: dict[str, Any] = {}
    for field in fields(fact):
        plain = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        if field.required or field.name in known:
            values[field.name] = known.get(field.name, small.get(plain))
    return decode(encode(fact(**values)))


class _OfAUser(PointUsed, frozen=True, kw_only=True, tag="point.used"):
    @property
    def stream(self) -> str:
        return self.earlier_stream


def of_a_user(order: Order) -> PointUsed:
    """A fact of a stream whose id is not the fact's key: today no service says any."""
    used = e.points_used(order)
    return _OfAUser(**{name: getattr(used, name) for name in used.__struct_fields__})


EXAMPLES = WRITTEN + tuple(made(fact) for fact in FACTS.values() if fact not in set(map(type, WRITTEN)))

BY_NAME: dict[str, Fact] = {NAMES[type(fact)]: fact for fact in EXAMPLES}

COUPONLESS = (e.coupon_used(e.PLAIN, discount=0), e.coupon_restored(e.PLAIN), e.use_of_coupon_voided(e.PLAIN))
"""An order without a coupon is answered too."""

NO_IDS = ["", " ", "a b", "a.b", "*", ">", "a\r\nNats-Rollup: all", "a\n", "ä", "\0", "x" * 65, "None.", "𝟙"]
