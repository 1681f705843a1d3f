"""Example data that tests share: Ann's order of two mugs, and the facts about it.

Two mugs at 10,000 won, 500 points, a coupon worth 300: 19,200 won are due; with a lamp in the basket, 49,200.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from contracts import (
    CouponHeld,
    CouponIssued,
    CouponRefusal,
    CouponRestored,
    CouponReturned,
    CouponUsed,
    CouponUseFailed,
    CouponUseVoided,
    Line,
    Order,
    OrderCanceled,
    OrderConfirmed,
    OrderCreatedPending,
    PointCharged,
    PointCredited,
    PointDebited,
    PointDeposited,
    PointRefunded,
    PointRefusal,
    PointUsed,
    PointUseFailed,
    PointUseVoided,
    PricedFact,
    ProductRefusal,
    ProductRegistered,
    ProductReleased,
    ProductReserved,
    ProductReserveFailed,
    ProductReserveVoided,
    ProductStockAdded,
    ProductStockHeld,
    ProductStockReceived,
    ProductStockReturned,
    Reason,
)

# Times ----------------------------------------------------------------------------------------------------------------

PLACED_AT: Final = datetime(2026, 3, 1, 9, 30, 0, 125_000, tzinfo=UTC)
BEFORE: Final = PLACED_AT + timedelta(seconds=1)
"""The time at which a heard fact was recorded."""
NOW: Final = PLACED_AT + timedelta(seconds=2)
"""The time at which a fact is heard: the instant of every command here unless a test names another."""
DEADLINE: Final = PLACED_AT + timedelta(seconds=30)
EXPIRES_AT: Final = datetime(2027, 1, 1, tzinfo=UTC)
INSTANT: Final = timedelta(microseconds=1)
"""The shortest time a fact can tell apart."""

CAUSE: Final = "some-stream@7"
"""The id of the fact that is heard."""

# Who and what ---------------------------------------------------------------------------------------------------------

CUSTOMER: Final = "ann"
STRANGER: Final = "stranger"
MUG: Final = "mug"
LAMP: Final = "lamp"
TEA: Final = "tea"
PRICES: Final = {MUG: 10_000, LAMP: 30_000, TEA: 3_000}
COUPON: Final = "ann-300"
DISCOUNT: Final = 300

ORDER_ID: Final = "0195c0ffee"
OTHER_ID: Final = "0195facade"
ORDER: Final = Order(CUSTOMER, (Line(MUG, 2),), points=500, coupon_id=COUPON, placed_at=PLACED_AT)
PLAIN: Final = Order(CUSTOMER, (Line(MUG, 2),), points=0, coupon_id=None, placed_at=PLACED_AT)
"""An order without points or coupon."""
BASKET: Final = Order(CUSTOMER, (Line(MUG, 2), Line(LAMP, 1)), points=500, coupon_id=COUPON, placed_at=PLACED_AT)
MUGS_AND_TEA: Final = Order(CUSTOMER, (Line(MUG, 2), Line(TEA, 3)), points=0, coupon_id=None, placed_at=PLACED_AT)

"""Every reason an order can be canceled for."""

# What order_svc says --------------------------------------------------------------------------------------------------


def order_created(order: Order = ORDER, order_id: str = ORDER_ID) -> OrderCreatedPending:
    return OrderCreatedPending(at=NOW, order_id=order_id, order=order, deadline=DEADLINE)


def order_confirmed(order: Order = ORDER, discount: int = DISCOUNT, order_id: str = ORDER_ID) -> OrderConfirmed:
    said = _priced(order, order_id)
    due = said["total"] - order.points - discount
    return OrderConfirmed(**said, points=order.points, discount=discount, amount_due=due)


def order_canceled(
    reason: Reason, order: Order = ORDER, order_id: str = ORDER_ID, at: datetime = NOW, cause: str | None = CAUSE
) -> OrderCanceled:
    return OrderCanceled(at=at, cause=cause, order_id=order_id, order=order, reason=reason)


def with_amounts(canceled: OrderCanceled, known: ProductReserveFailed | PricedFact) -> OrderCanceled:
    """The cancel as order_svc records it when it knows the amounts of this fact."""
    if not isinstance(known, PricedFact):
        return canceled
    discount = known.discount if isinstance(known, OrderConfirmed) else None
    return replace(canceled, unit_prices=known.unit_prices, total=known.total, discount=discount)


# What product_svc says ------------------------------------------------------------------------------------------------


def product_registered(product_id: str = MUG) -> ProductRegistered:
    return ProductRegistered(at=NOW, product_id=product_id, name=product_id.title(), price=PRICES[product_id])


def stock_added(quantity: int, product_id: str = MUG, key: str | None = None) -> ProductStockAdded:
    return ProductStockAdded(at=NOW, product_id=product_id, quantity=quantity, idempotency_key=key)


def stock_received(quantity: int, key: str, product_id: str = MUG) -> ProductStockReceived:
    return ProductStockReceived(at=NOW, product_id=product_id, quantity=quantity, idempotency_key=key)


def adding(quantity: int, key: str, product_id: str = MUG) -> tuple[ProductStockReceived, ProductStockAdded]:
    """The answer to a request that adds stock, and what is recorded together with it."""
    return stock_received(quantity, key, product_id), stock_added(quantity, product_id, key)


def in_stock(quantity: int, product_id: str = MUG) -> tuple[ProductRegistered, ProductStockAdded]:
    return product_registered(product_id), stock_added(quantity, product_id)


def stock_held(quantity: int = 2, product_id: str = MUG, order_id: str = ORDER_ID) -> ProductStockHeld:
    return ProductStockHeld(at=NOW, cause=CAUSE, product_id=product_id, order_id=order_id, quantity=quantity)


def stock_returned(quantity: int = 2, product_id: str = MUG, order_id: str = ORDER_ID) -> ProductStockReturned:
    return ProductStockReturned(at=NOW, cause=CAUSE, product_id=product_id, order_id=order_id, quantity=quantity)


def product_reserved(order: Order = ORDER, order_id: str = ORDER_ID) -> ProductReserved:
    return ProductReserved(**_priced(order, order_id))


def reserve_failed(
    reason: ProductRefusal, product_id: str = MUG, order: Order = ORDER, order_id: str = ORDER_ID
) -> ProductReserveFailed:
    return ProductReserveFailed(**_about(order, order_id), product_id=product_id, reason=reason)


def product_released(order: Order = ORDER, order_id: str = ORDER_ID) -> ProductReleased:
    return ProductReleased(**_about(order, order_id))


def reserve_voided(order: Order = ORDER, order_id: str = ORDER_ID) -> ProductReserveVoided:
    return ProductReserveVoided(**_about(order, order_id))


# What point_svc says --------------------------------------------------------------------------------------------------


def charged(amount: int, key: str = "first") -> PointCharged:
    return PointCharged(at=NOW, user_id=CUSTOMER, amount=amount, idempotency_key=key)


def points_used(order: Order = ORDER, order_id: str = ORDER_ID) -> PointUsed:
    return PointUsed(**_priced(order, order_id), points=order.points)


def use_of_points_failed(reason: PointRefusal, order: Order = ORDER, order_id: str = ORDER_ID) -> PointUseFailed:
    return PointUseFailed(**_priced(order, order_id), reason=reason)


def points_refunded(order: Order = ORDER, order_id: str = ORDER_ID) -> PointRefunded:
    return PointRefunded(**_about(order, order_id), points=order.points)


def use_of_points_voided(order: Order = ORDER, order_id: str = ORDER_ID) -> PointUseVoided:
    return PointUseVoided(**_about(order, order_id))


def deposited(points: int, key: str = "first") -> PointDeposited:
    return PointDeposited(at=NOW, user_id=CUSTOMER, points=points, idempotency_key=key)


def debited(order: Order = ORDER, order_id: str = ORDER_ID) -> PointDebited:
    return PointDebited(at=NOW, cause=CAUSE, user_id=order.user_id, order_id=order_id, points=order.points)


def credited(order: Order = ORDER, order_id: str = ORDER_ID) -> PointCredited:
    return PointCredited(at=NOW, cause=CAUSE, user_id=order.user_id, order_id=order_id, points=order.points)


def charging(points: int, key: str = "first") -> tuple[PointDeposited, PointCharged]:
    return deposited(points, key), charged(points, key)


def using(order: Order = ORDER, order_id: str = ORDER_ID) -> tuple[PointDebited, PointUsed]:
    return debited(order, order_id), points_used(order, order_id)


def refunding(order: Order = ORDER, order_id: str = ORDER_ID) -> tuple[PointCredited, PointRefunded]:
    return credited(order, order_id), points_refunded(order, order_id)


# What coupon_svc says -------------------------------------------------------------------------------------------------


def coupon_issued(
    discount: int = DISCOUNT, user_id: str = CUSTOMER, expires_at: datetime = EXPIRES_AT, coupon_id: str = COUPON
) -> CouponIssued:
    return CouponIssued(at=NOW, coupon_id=coupon_id, user_id=user_id, discount=discount, expires_at=expires_at)


def coupon_used(order: Order = ORDER, discount: int = DISCOUNT, order_id: str = ORDER_ID) -> CouponUsed:
    return CouponUsed(**_priced(order, order_id), coupon_id=order.coupon_id, discount=discount)


def use_of_coupon_failed(reason: CouponRefusal, order: Order = ORDER, order_id: str = ORDER_ID) -> CouponUseFailed:
    assert order.coupon_id is not None
    return CouponUseFailed(**_priced(order, order_id), coupon_id=order.coupon_id, reason=reason)


def coupon_restored(order: Order = ORDER, order_id: str = ORDER_ID) -> CouponRestored:
    return CouponRestored(**_about(order, order_id), coupon_id=order.coupon_id)


def use_of_coupon_voided(order: Order = ORDER, order_id: str = ORDER_ID) -> CouponUseVoided:
    return CouponUseVoided(**_about(order, order_id), coupon_id=order.coupon_id)


def coupon_held(order: Order = ORDER, order_id: str = ORDER_ID) -> CouponHeld:
    assert order.coupon_id is not None
    return CouponHeld(at=NOW, cause=CAUSE, coupon_id=order.coupon_id, order_id=order_id)


def coupon_returned(order: Order = ORDER, order_id: str = ORDER_ID) -> CouponReturned:
    assert order.coupon_id is not None
    return CouponReturned(at=NOW, cause=CAUSE, coupon_id=order.coupon_id, order_id=order_id)


def taking(order: Order = ORDER, discount: int = DISCOUNT, order_id: str = ORDER_ID) -> tuple[CouponHeld, CouponUsed]:
    return coupon_held(order, order_id), coupon_used(order, discount, order_id)


def restoring(order: Order = ORDER, order_id: str = ORDER_ID) -> tuple[CouponReturned, CouponRestored]:
    return coupon_returned(order, order_id), coupon_restored(order, order_id)


# ----------------------------------------------------------------------------------------------------------------------


def _about(order: Order, order_id: str) -> dict[str, Any]:
    return {"at": NOW, "cause": CAUSE, "order_id": order_id, "order": order}


def _priced(order: Order, order_id: str) -> dict[str, Any]:
    unit_prices = tuple(PRICES[line.product_id] for line in order.lines)
    total = sum(price * line.quantity for price, line in zip(unit_prices, order.lines, strict=True))
    return {**_about(order, order_id), "unit_prices": unit_prices, "total": total}
