"""Defines every fact of every service, its subject and its wire format. No business rules.

It does no I/O, but for `python -m contracts.asyncapi`, which prints. A fact has one name everywhere: it begins the
subject in EVENTS (`<name>.<key>`), and is the JSON `type` and the stored topic. The name `order.confirmed` belongs to
the Struct `OrderConfirmed`.
"""

from contracts.coupon import (
    CouponHeld,
    CouponIssued,
    CouponRestored,
    CouponReturned,
    CouponUsed,
    CouponUseFailed,
    CouponUseVoided,
    coupon_stream,
)
from contracts.fact import (
    BY_CUSTOMER,
    MOST,
    REASONS,
    WITHDRAWALS,
    CouponRefusal,
    Fact,
    Line,
    Order,
    PointRefusal,
    PricedFact,
    ProductRefusal,
    Reason,
    SagaFact,
)
from contracts.order import OrderCanceled, OrderConfirmed, OrderCreatedPending
from contracts.point import (
    PointCharged,
    PointCredited,
    PointDebited,
    PointDeposited,
    PointRefunded,
    PointUsed,
    PointUseFailed,
    PointUseVoided,
)
from contracts.product import (
    ProductRegistered,
    ProductReleased,
    ProductReserved,
    ProductReserveFailed,
    ProductReserveVoided,
    ProductStockAdded,
    ProductStockHeld,
    ProductStockReceived,
    ProductStockReturned,
)

__all__ = [
    "BY_CUSTOMER",
    "MOST",
    "REASONS",
    "WITHDRAWALS",
    "CouponHeld",
    "CouponIssued",
    "CouponRefusal",
    "CouponRestored",
    "CouponReturned",
    "CouponUseFailed",
    "CouponUseVoided",
    "CouponUsed",
    "Fact",
    "Line",
    "Order",
    "OrderCanceled",
    "OrderConfirmed",
    "OrderCreatedPending",
    "PointCharged",
    "PointCredited",
    "PointDebited",
    "PointDeposited",
    "PointRefunded",
    "PointRefusal",
    "PointUseFailed",
    "PointUseVoided",
    "PointUsed",
    "PricedFact",
    "ProductRefusal",
    "ProductRegistered",
    "ProductReleased",
    "ProductReserveFailed",
    "ProductReserveVoided",
    "ProductReserved",
    "ProductStockAdded",
    "ProductStockHeld",
    "ProductStockReceived",
    "ProductStockReturned",
    "Reason",
    "SagaFact",
    "coupon_stream",
]
