"""Defines every fact of every service, its subject and its wire format. No I/O and no business rules.

A fact has one name everywhere: it begins the NATS subject (`<name>.<key>`), and is the JSON `type` and the stored
topic. The name `order.confirmed` belongs to the Struct `OrderConfirmed`.
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
    "BY_CUSTOMER",
    "MOST",
    "REASONS",
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
