"""Maps each fact that coupon_svc hears to the command that answers it."""

from collections.abc import Mapping

from contracts import Fact, OrderCanceled, PointUsed
from coupon_svc.domain.use import Restore, Use

REACTIONS: Mapping[type[Fact], type[Use | Restore]] = {
    PointUsed: Use,
    OrderCanceled: Restore,
}
