"""Maps each fact that product_svc hears to the command that answers it."""

from collections.abc import Mapping

from contracts import CouponUseFailed, Fact, OrderCanceled, OrderCreatedPending, PointUseFailed
from product_svc.domain.reservation import Release, Reserve

REACTIONS: Mapping[type[Fact], type[Reserve | Release]] = {
    OrderCreatedPending: Reserve,
    PointUseFailed: Release,
    CouponUseFailed: Release,
    OrderCanceled: Release,
}
