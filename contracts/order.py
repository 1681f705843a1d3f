"""The facts that order_svc says."""

from datetime import datetime
from typing import ClassVar

from contracts.fact import PricedFact, Reason, SagaFact


class OrderFact(SagaFact, frozen=True, kw_only=True):
    """A fact of one order's own stream."""

    @property
    def stream(self) -> str:
        return f"order-{self.order_id}"


class OrderCreatedPending(OrderFact, frozen=True, kw_only=True, tag="order.created.pending"):
    """An order was accepted. If it has not ended by `deadline`, it is canceled."""

    by_client: ClassVar[bool] = True

    deadline: datetime


class OrderConfirmed(OrderFact, PricedFact, frozen=True, kw_only=True, tag="order.confirmed"):
    """All three steps are done. `amount_due = total - points - discount`, in won."""

    points: int
    discount: int
    amount_due: int


class OrderCanceled(OrderFact, frozen=True, kw_only=True, tag="order.canceled"):
    """The order is over: a step refused it, its time ran out, or the customer canceled it.

    The amounts are those that order_svc knew at that instant; an amount that it did not know is null. `unit_prices` are
    as in PricedFact.
    """

    by_client: ClassVar[bool] = True

    reason: Reason
    unit_prices: tuple[int, ...] | None = None
    total: int | None = None
    discount: int | None = None


OrderSays = OrderCreatedPending | OrderConfirmed | OrderCanceled
