"""Maps each fact that order_svc hears to the command that answers it."""

from collections.abc import Mapping

from contracts import CouponUsed, CouponUseFailed, Fact, PointUseFailed, ProductReserveFailed
from order_svc.domain import Confirm, Refuse

REACTIONS: Mapping[type[Fact], type[Confirm | Refuse]] = {
    CouponUsed: Confirm,
    ProductReserveFailed: Refuse,
    PointUseFailed: Refuse,
    CouponUseFailed: Refuse,
}
