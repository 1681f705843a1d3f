"""Which command of order_svc answers which fact."""

from collections.abc import Mapping

from contracts import CouponUsed, CouponUseFailed, Fact, PointUseFailed, ProductReserveFailed
from order_svc.domain import Confirm, Refuse

REACTIONS: Mapping[type[Fact], type[Confirm | Refuse]] = {
    CouponUsed: Confirm,
    ProductReserveFailed: Refuse,
    PointUseFailed: Refuse,
    CouponUseFailed: Refuse,
}
