"""The facts that point_svc says: the answers to charges and orders, and the ledger of each account.

An answer is in a stream of its own, so that an account's state does not grow with them. Older code recorded answers in
the account's stream instead, and no ledger facts beside them.
"""

from typing import ClassVar, Final

from contracts.fact import Count, Fact, PointRefusal, PricedFact, SagaFact
from contracts.ids import keyed_id
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
        return f"charge-{keyed_id(self.user_id, self.idempotency_key)}"

    @property
    def earlier_stream(self) -> str:
        return f"account-{self.user_id}"


class AccountFact(Fact, frozen=True, kw_only=True):
    """Base of the facts of one account's ledger, each recorded together with the answer that it belongs to.

    The published subject ends in the customer's id, as `wire.token` writes it.
    """

    key_field: ClassVar[str] = "user_id"
    implied: ClassVar[bool] = True

    user_id: str
    points: Count

    @property
    def stream(self) -> str:
        return f"account-{self.user_id}"


class PointDeposited(AccountFact, frozen=True, kw_only=True, tag="point.deposited"):
    """The account's balance grew by `points`: its customer charged it with this `idempotency_key`."""

    by_client: ClassVar[bool] = True

    idempotency_key: str


class PointDebited(AccountFact, frozen=True, kw_only=True, tag="point.debited"):
    """The account's balance shrank by `points`: an order uses them."""

    order_id: str


class PointCredited(AccountFact, frozen=True, kw_only=True, tag="point.credited"):
    """The account's balance grew by `points`: an order that used them gave them back."""

    order_id: str


class PointUseFact(SagaFact, frozen=True, kw_only=True):
    """Base of the facts of an order's point step: used, refused, refunded or voided."""

    @property
    def stream(self) -> str:
        return f"pointuse-{self.order_id}"

    @property
    def earlier_stream(self) -> str:
        return f"account-{self.order.user_id}"


class PointUsed(PointUseFact, PricedFact, frozen=True, kw_only=True, tag="point.used"):
    """The order's points were taken from the customer's account; `points` is 0 if the order uses none."""

    points: Count


class PointUseFailed(PointUseFact, PricedFact, frozen=True, kw_only=True, tag="point.use.failed"):
    """The order's points could not be taken, for this `reason`; the balance is as before."""

    reason: PointRefusal


class PointRefunded(PointUseFact, frozen=True, kw_only=True, tag="point.refunded"):
    """Compensation: the `points` that the order had used are back in the account; 0 if it had used none."""

    points: Count


class PointUseVoided(PointUseFact, frozen=True, kw_only=True, tag="point.use.voided"):
    """Fence: the order was over before point_svc answered it, and will never use points."""


PointSays = (
    PointCharged
    | PointDeposited
    | PointDebited
    | PointCredited
    | PointUsed
    | PointUseFailed
    | PointRefunded
    | PointUseVoided
)

STEP: Final = Step(
    hears=ProductReserved,
    done=PointUsed,
    refused=PointUseFailed,
    undone=PointRefunded,
    fenced=PointUseVoided,
    returned=(PointCredited,),
)
