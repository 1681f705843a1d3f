"""The facts that point_svc says."""

from typing import ClassVar, Final

from contracts.fact import Count, Fact, PointRefusal, PricedFact, SagaFact
from contracts.product import ProductReserved
from contracts.step import Step


class PointCharged(Fact, frozen=True, kw_only=True, tag="point.charged"):
    """A customer put `amount` points into the account, once for this `idempotency_key`.

    The key is the client's: a charge without an Idempotency-Key is refused.
    """

    key_field: ClassVar[str] = "user_id"
    by_client: ClassVar[bool] = True

    user_id: str
    amount: Count
    idempotency_key: str

    @property
    def stream(self) -> str:
        return f"account-{self.user_id}"


class AccountFact(SagaFact, frozen=True, kw_only=True):
    """Base of the facts of an order's point step, in the stream of its customer's account."""

    @property
    def stream(self) -> str:
        return f"account-{self.order.user_id}"


class PointUsed(AccountFact, PricedFact, frozen=True, kw_only=True, tag="point.used"):
    """The order's points were taken from the customer's account; `points` is 0 if the order uses none."""

    points: Count


class PointUseFailed(AccountFact, PricedFact, frozen=True, kw_only=True, tag="point.use.failed"):
    """The order's points could not be taken, for this `reason`; the balance is as before."""

    reason: PointRefusal


class PointRefunded(AccountFact, frozen=True, kw_only=True, tag="point.refunded"):
    """Compensation: the `points` that the order had used are back in the account; 0 if it had used none."""

    points: Count


class PointUseVoided(AccountFact, frozen=True, kw_only=True, tag="point.use.voided"):
    """Fence: the order was over before point_svc answered it, and will never use points."""


PointSays = PointCharged | PointUsed | PointUseFailed | PointRefunded | PointUseVoided

STEP: Final = Step(
    hears=ProductReserved, done=PointUsed, refused=PointUseFailed, undone=PointRefunded, fenced=PointUseVoided
)
