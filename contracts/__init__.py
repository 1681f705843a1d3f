"""Every fact of every service, the subjects and the wire format. Types only: no I/O, no rules.

One name serves everywhere: NATS subject, JSON `type`, stored topic. `order.confirmed` is the Struct `OrderConfirmed`.
"""

from contracts.coupon import (
    CouponIssued,
    CouponRestored,
    CouponUsed,
    CouponUseFailed,
    CouponUseVoided,
    coupon_stream,
)
from contracts.fact import (
    MOST,
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
from contracts.point import PointCharged, PointRefunded, PointUsed, PointUseFailed, PointUseVoided
from contracts.product import (
    ProductRegistered,
    ProductReleased,
    ProductReserved,
    ProductReserveFailed,
    ProductReserveVoided,
    ProductStockAdded,
    ProductStockHeld,
    ProductStockReturned,
)

__all__ = [
    "MOST",
    "WITHDRAWALS",
    "CouponIssued",
    "CouponRefusal",
    "CouponRestored",
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
    "ProductStockReturned",
    "Reason",
    "SagaFact",
    "coupon_stream",
]
