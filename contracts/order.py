"""The facts that order_svc says."""

from typing import ClassVar

from contracts.fact import Count, PricedFact, Reason, SagaFact, Timestamp


class OrderFact(SagaFact, frozen=True, kw_only=True):
    """Base of the facts in an order's own stream, `order-<order_id>`."""

    @property
    def stream(self) -> str:
        return f"order-{self.order_id}"


class OrderCreatedPending(OrderFact, frozen=True, kw_only=True, tag="order.created.pending"):
    """An order was accepted. If it has not ended by `deadline` (UTC), order_svc cancels it."""

    by_client: ClassVar[bool] = True

    deadline: Timestamp


class OrderConfirmed(OrderFact, PricedFact, frozen=True, kw_only=True, tag="order.confirmed"):
    """All three steps are done. `amount_due = total - points - discount`, in won."""

    points: Count
    discount: Count
    amount_due: Count


class OrderCanceled(OrderFact, frozen=True, kw_only=True, tag="order.canceled"):
    """The order is over: a step refused it, its deadline passed, or the customer canceled it.

    The customer may cancel even a confirmed order. Amounts are in won, `unit_prices` as in PricedFact. The amounts are
    those of the refusal or of the confirmation; an amount that neither has is null. Older code recorded no amounts.
    """

    by_client: ClassVar[bool] = True

    reason: Reason
    unit_prices: tuple[Count, ...] | None = None
    total: Count | None = None
    discount: Count | None = None


OrderSays = OrderCreatedPending | OrderConfirmed | OrderCanceled
