"""What coupon_svc does about what it hears."""

from collections.abc import Mapping

from contracts import Fact, OrderCanceled, PointUsed
from coupon_svc.domain import Restore, Use

REACTIONS: Mapping[type[Fact], type[Use | Restore]] = {
    PointUsed: Use,
    OrderCanceled: Restore,
}
