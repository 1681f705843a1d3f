"""Maps each fact that point_svc hears to the command that answers it."""

from collections.abc import Mapping

from contracts import CouponUseFailed, Fact, OrderCanceled, ProductReserved
from point_svc.domain.use import Refund, Use

REACTIONS: Mapping[type[Fact], type[Use | Refund]] = {
    ProductReserved: Use,
    CouponUseFailed: Refund,
    OrderCanceled: Refund,
}
