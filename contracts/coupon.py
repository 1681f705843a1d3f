"""The facts that coupon_svc says.

It answers an order without a coupon too, on a stream of its own (`nocoupon-<order_id>`).
"""

from datetime import datetime
from typing import ClassVar, Final

from contracts.fact import CouponRefusal, Fact, PricedFact, SagaFact
from contracts.point import PointUsed
from contracts.step import Step


def coupon_stream(coupon_id: str | None, order_id: str) -> str:
    """The stream that answers for this order's coupon."""
    return f"nocoupon-{order_id}" if coupon_id is None else f"coupon-{coupon_id}"


class CouponIssued(Fact, frozen=True, kw_only=True, tag="coupon.issued"):
    """A coupon worth up to `discount` won was given to a customer, for orders accepted before `expires_at`."""

    key_field: ClassVar[str] = "coupon_id"
    by_client: ClassVar[bool] = True

    coupon_id: str
    user_id: str
    discount: int
    expires_at: datetime

    @property
    def stream(self) -> str:
        return f"coupon-{self.coupon_id}"


class CouponFact(SagaFact, frozen=True, kw_only=True):
    """Base of the facts about an order's coupon: used, refused, restored or voided."""

    @property
    def stream(self) -> str:
        return coupon_stream(self.order.coupon_id, self.order_id)


class CouponUsed(CouponFact, PricedFact, frozen=True, kw_only=True, tag="coupon.used"):
    """The coupon belongs to this order. It took off `discount` won, never more than was left to pay."""

    coupon_id: str | None
    discount: int


class CouponUseFailed(CouponFact, PricedFact, frozen=True, kw_only=True, tag="coupon.use.failed"):
    """The coupon could not be used for this order."""

    coupon_id: str
    reason: CouponRefusal


class CouponRestored(CouponFact, frozen=True, kw_only=True, tag="coupon.restored"):
    """Compensation: the coupon this order used can be used again."""

    coupon_id: str | None


class CouponUseVoided(CouponFact, frozen=True, kw_only=True, tag="coupon.use.voided"):
    """Fence: the order was over before it reached the coupon, and will never use it."""

    coupon_id: str | None


CouponSays = CouponIssued | CouponUsed | CouponUseFailed | CouponRestored | CouponUseVoided

STEP: Final = Step(
    hears=PointUsed, done=CouponUsed, refused=CouponUseFailed, undone=CouponRestored, fenced=CouponUseVoided
)
