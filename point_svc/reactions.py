"""Which command of point_svc answers which fact."""

from collections.abc import Mapping

from contracts import CouponUseFailed, Fact, OrderCanceled, ProductReserved
from point_svc.domain import Refund, Use

REACTIONS: Mapping[type[Fact], type[Use | Refund]] = {
    ProductReserved: Use,
    CouponUseFailed: Refund,
    OrderCanceled: Refund,
}
