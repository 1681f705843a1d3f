"""The facts that coupon_svc says: the answers to orders, and what each coupon is and which order uses it.

An answer is in a stream of the order, so that a coupon's state does not grow with the orders that try the coupon. For
an order with a coupon older code recorded the answer in the coupon's stream instead, and neither CouponHeld nor
CouponReturned beside it. coupon_svc also answers an order without a coupon.
"""

from typing import ClassVar, Final

from contracts.fact import Count, CouponRefusal, Fact, PricedFact, SagaFact, Timestamp
from contracts.point import PointUsed
from contracts.step import Step


def coupon_stream(coupon_id: str | None, order_id: str) -> str:
    """Return the name of the stream in which coupon_svc answers an order today: `couponuse-<order_id>`.

    For an order without a coupon (`coupon_id` None) it is `nocoupon-<order_id>`.
    """
    return f"nocoupon-{order_id}" if coupon_id is None else f"couponuse-{order_id}"


class CouponIssued(Fact, frozen=True, kw_only=True, tag="coupon.issued"):
    """A coupon of up to `discount` won was given to a customer, for orders whose `placed_at` is before `expires_at`."""

    key_field: ClassVar[str] = "coupon_id"
    by_client: ClassVar[bool] = True

    coupon_id: str
    user_id: str
    discount: Count
    expires_at: Timestamp

    @property
    def stream(self) -> str:
        return f"coupon-{self.coupon_id}"


class CouponMoved(Fact, frozen=True, kw_only=True):
    """Base of the facts that an order got a coupon or gave it back.

    CouponHeld is recorded together with CouponUsed, CouponReturned with CouponRestored. The published subject ends in
    the coupon's id, as `wire.token` writes it.
    """

    key_field: ClassVar[str] = "coupon_id"
    implied: ClassVar[bool] = True

    coupon_id: str
    order_id: str

    @property
    def stream(self) -> str:
        return f"coupon-{self.coupon_id}"


class CouponHeld(CouponMoved, frozen=True, kw_only=True, tag="coupon.held"):
    """An order uses the coupon: no other order may."""


class CouponReturned(CouponMoved, frozen=True, kw_only=True, tag="coupon.returned"):
    """The order no longer uses the coupon: another order of its customer may, if placed before the coupon expires."""


class CouponFact(SagaFact, frozen=True, kw_only=True):
    """Base of the facts of an order's coupon step: used, refused, restored or voided."""

    @property
    def stream(self) -> str:
        return coupon_stream(self.order.coupon_id, self.order_id)

    @property
    def earlier_stream(self) -> str:
        coupon_id = self.order.coupon_id
        return self.stream if coupon_id is None else f"coupon-{coupon_id}"


class CouponUsed(CouponFact, PricedFact, frozen=True, kw_only=True, tag="coupon.used"):
    """The order uses its coupon, which takes off `discount` won, never more than total less points.

    For an order without a coupon `coupon_id` is null and `discount` 0.
    """

    coupon_id: str | None
    discount: Count


class CouponUseFailed(CouponFact, PricedFact, frozen=True, kw_only=True, tag="coupon.use.failed"):
    """The order may not use its coupon, for this `reason`; the coupon is as before."""

    coupon_id: str
    reason: CouponRefusal


class CouponRestored(CouponFact, frozen=True, kw_only=True, tag="coupon.restored"):
    """Compensation: this order no longer uses its coupon; its customer may use it again until it expires.

    An order without a coupon gets this fact too; `coupon_id` is then null.
    """

    coupon_id: str | None


class CouponUseVoided(CouponFact, frozen=True, kw_only=True, tag="coupon.use.voided"):
    """Fence: the order was canceled before coupon_svc answered it, and will never use its coupon.

    `coupon_id` is null for an order without a coupon.
    """

    coupon_id: str | None


CouponSays = (
    CouponIssued | CouponHeld | CouponReturned | CouponUsed | CouponUseFailed | CouponRestored | CouponUseVoided
)

STEP: Final = Step(
    hears=PointUsed,
    done=CouponUsed,
    refused=CouponUseFailed,
    undone=CouponRestored,
    fenced=CouponUseVoided,
    returned=(CouponReturned,),
)
