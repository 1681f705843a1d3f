"""One example of every fact, all of one order's story: Ann buys two mugs and a lamp with points and a coupon."""

from datetime import UTC, datetime

from contracts import (
    CouponIssued,
    CouponRestored,
    CouponUsed,
    CouponUseFailed,
    CouponUseVoided,
    Fact,
    Line,
    Order,
    OrderCanceled,
    OrderConfirmed,
    OrderCreatedPending,
    PointCharged,
    PointRefunded,
    PointUsed,
    PointUseFailed,
    PointUseVoided,
    ProductRegistered,
    ProductReleased,
    ProductReserved,
    ProductReserveFailed,
    ProductReserveVoided,
    ProductStockAdded,
    ProductStockHeld,
    ProductStockReturned,
)
from contracts.wire import NAMES

PLACED_AT = datetime(2026, 3, 1, 9, 30, 0, 125_000, tzinfo=UTC)
AT = datetime(2026, 3, 1, 9, 30, 0, 250_000, tzinfo=UTC)
DEADLINE = datetime(2026, 3, 1, 9, 30, 30, 125_000, tzinfo=UTC)
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)

ORDER_ID = "0195c0ffee"
ORDER = Order("ann", (Line("mug", 2), Line("lamp", 1)), 500, "ann-300", PLACED_AT)
WITHOUT_COUPON = Order("ann", (Line("mug", 1),), 0, None, PLACED_AT)

PRICES = (10_000, 30_000)
TOTAL = 50_000

CREATED = "order-0195c0ffee@1"
RESERVED = "reservation-0195c0ffee@1"
USED = "account-ann@2"
COUPON = "coupon-ann-300@2"
CANCELED = "order-0195c0ffee@2"

EXAMPLES: tuple[Fact, ...] = (
    OrderCreatedPending(at=PLACED_AT, cause=None, order_id=ORDER_ID, order=ORDER, deadline=DEADLINE),
    OrderConfirmed(
        at=AT,
        cause=COUPON,
        order_id=ORDER_ID,
        order=ORDER,
        unit_prices=PRICES,
        total=TOTAL,
        points=500,
        discount=300,
        amount_due=49_200,
    ),
    OrderCanceled(
        at=AT,
        cause=None,
        order_id=ORDER_ID,
        order=ORDER,
        reason="customer-canceled",
        unit_prices=PRICES,
        total=TOTAL,
        discount=300,
    ),
    ProductRegistered(at=AT, cause=None, product_id="mug", name="머그컵", price=10_000),
    ProductStockAdded(at=AT, cause=None, product_id="mug", quantity=100, idempotency_key="delivery-7"),
    ProductStockHeld(at=AT, cause=CREATED, product_id="mug", order_id=ORDER_ID, quantity=2),
    ProductStockReturned(at=AT, cause=CANCELED, product_id="mug", order_id=ORDER_ID, quantity=2),
    ProductReserved(at=AT, cause=CREATED, order_id=ORDER_ID, order=ORDER, unit_prices=PRICES, total=TOTAL),
    ProductReserveFailed(
        at=AT, cause=CREATED, order_id=ORDER_ID, order=ORDER, product_id="lamp", reason="product-out-of-stock"
    ),
    ProductReleased(at=AT, cause=CANCELED, order_id=ORDER_ID, order=ORDER),
    ProductReserveVoided(at=AT, cause=CANCELED, order_id=ORDER_ID, order=ORDER),
    PointCharged(at=AT, cause=None, user_id="ann", amount=5_000, idempotency_key="transfer-1"),
    PointUsed(at=AT, cause=RESERVED, order_id=ORDER_ID, order=ORDER, unit_prices=PRICES, total=TOTAL, points=500),
    PointUseFailed(
        at=AT,
        cause=RESERVED,
        order_id=ORDER_ID,
        order=ORDER,
        unit_prices=PRICES,
        total=TOTAL,
        reason="points-insufficient",
    ),
    PointRefunded(at=AT, cause=CANCELED, order_id=ORDER_ID, order=ORDER, points=500),
    PointUseVoided(at=AT, cause=CANCELED, order_id=ORDER_ID, order=ORDER),
    CouponIssued(at=AT, cause=None, coupon_id="ann-300", user_id="ann", discount=300, expires_at=NEW_YEAR),
    CouponUsed(
        at=AT,
        cause=USED,
        order_id=ORDER_ID,
        order=ORDER,
        unit_prices=PRICES,
        total=TOTAL,
        coupon_id="ann-300",
        discount=300,
    ),
    CouponUseFailed(
        at=AT,
        cause=USED,
        order_id=ORDER_ID,
        order=ORDER,
        unit_prices=PRICES,
        total=TOTAL,
        coupon_id="ann-300",
        reason="coupon-expired",
    ),
    CouponRestored(at=AT, cause=CANCELED, order_id=ORDER_ID, order=ORDER, coupon_id="ann-300"),
    CouponUseVoided(at=AT, cause=CANCELED, order_id=ORDER_ID, order=ORDER, coupon_id="ann-300"),
)

BY_NAME: dict[str, Fact] = {NAMES[type(fact)]: fact for fact in EXAMPLES}

COUPONLESS = (
    CouponUsed(
        at=AT,
        cause=USED,
        order_id=ORDER_ID,
        order=WITHOUT_COUPON,
        unit_prices=(10_000,),
        total=10_000,
        coupon_id=None,
        discount=0,
    ),
    CouponRestored(at=AT, cause=CANCELED, order_id=ORDER_ID, order=WITHOUT_COUPON, coupon_id=None),
    CouponUseVoided(at=AT, cause=CANCELED, order_id=ORDER_ID, order=WITHOUT_COUPON, coupon_id=None),
)
"""An order without a coupon is answered too."""
