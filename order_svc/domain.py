"""An order is pending until its first end: confirmed or canceled. The customer may still cancel a confirmed order."""

from datetime import datetime
from typing import ClassVar, Literal, assert_never

from msgspec import Struct, structs

from contracts import CouponUsed, CouponUseFailed, PointUseFailed, ProductReserveFailed
from contracts.command import AboutOrder, Reaction, Request
from contracts.fact import Fact, Order, PricedFact, Reason
from contracts.order import OrderCanceled, OrderConfirmed, OrderCreatedPending

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = OrderCreatedPending | OrderConfirmed | OrderCanceled


# Commands -------------------------------------------------------------------------------------------------------------
class OrderRequest(Request, frozen=True):
    order_id: str

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"order-{self.order_id}",)


class OrderReaction(Reaction, frozen=True):
    @property
    def streams(self) -> tuple[str, ...]:
        return (f"order-{self.fact.order_id}",)


class Place(OrderRequest, frozen=True):
    """Accept an order, once per order id. The order is canceled if it has not ended by `deadline`."""

    says: ClassVar = (OrderCreatedPending,)
    order: Order
    deadline: datetime


class Confirm(OrderReaction, frozen=True):
    """Confirm the order if it is pending: the last step is done."""

    says: ClassVar = (OrderConfirmed,)
    fact: CouponUsed


class Refuse(OrderReaction, frozen=True):
    """Cancel the order if it is pending: a step refused it."""

    says: ClassVar = (OrderCanceled,)
    fact: ProductReserveFailed | PointUseFailed | CouponUseFailed


class Expire(OrderRequest, frozen=True):
    """Cancel the order if it is pending and its deadline has passed."""

    says: ClassVar = (OrderCanceled,)


class Cancel(OrderRequest, frozen=True):
    """Cancel the order, pending or confirmed, for its customer `user_id`. Does nothing if it is canceled already."""

    says: ClassVar = (OrderCanceled,)
    user_id: str


Command = Place | Confirm | Refuse | Expire | Cancel


class PlacedDifferently(Exception):
    """This order exists with other lines, points or coupon: the idempotency key was used for another request."""


class NoSuchOrder(Exception):
    """The order to cancel does not exist, or it is another customer's."""


# State ----------------------------------------------------------------------------------------------------------------
Status = Literal["PENDING", "CONFIRMED", "CANCELED"]


class State(Struct):
    """One order. `first_end` stays when a cancel follows a confirmation. `status`: None if there is no such order."""

    order: Order | None = None
    deadline: datetime | None = None
    first_end: OrderConfirmed | OrderCanceled | None = None
    reason: Reason | None = None

    @property
    def status(self) -> Status | None:
        return "CANCELED" if self.reason else "CONFIRMED" if self.first_end else "PENDING" if self.order else None


# Decide ---------------------------------------------------------------------------------------------------------------
def decide(command: Command, state: State) -> tuple[Event, ...]:
    match command:
        case Place(order_id, order, deadline):
            if state.order is None:
                return (OrderCreatedPending(order_id=order_id, order=order, deadline=deadline, **command.stamp()),)
            if structs.replace(order, placed_at=state.order.placed_at) != state.order:
                raise PlacedDifferently(order_id)
            return ()  # placed already
        case Confirm():
            if state.status != "PENDING":
                return ()  # ended already, or never accepted here
            fact, points = command.fact, command.fact.order.points
            due = fact.total - points - fact.discount
            return (OrderConfirmed(points=points, discount=fact.discount, amount_due=due, **command.priced_order()),)
        case Refuse(fact):
            if state.status != "PENDING":
                return ()  # ended already, or never accepted here
            return (_canceled(command, fact.order, fact.reason, fact),)
        case Expire():
            if state.status != "PENDING" or state.order is None:
                return ()  # ended in time
            if state.deadline is None or command.at < state.deadline:
                return ()  # not yet
            return (_canceled(command, state.order, "deadline-exceeded"),)
        case Cancel(order_id, user_id):
            if state.order is None or state.order.user_id != user_id:
                raise NoSuchOrder(order_id)
            if state.status == "CANCELED":
                return ()  # over already
            return (_canceled(command, state.order, "customer-canceled", state.first_end),)
        case _:
            assert_never(command)


def _canceled(command: Command, order: Order, reason: Reason, priced: Fact | None = None) -> OrderCanceled:
    about_order: AboutOrder = {**command.stamp(), "order_id": command.order_id, "order": order}
    prices, total = (priced.unit_prices, priced.total) if isinstance(priced, PricedFact) else (None, None)
    discount = priced.discount if isinstance(priced, OrderConfirmed) else None
    return OrderCanceled(reason=reason, unit_prices=prices, total=total, discount=discount, **about_order)


# Evolve ---------------------------------------------------------------------------------------------------------------
def evolve(state: State, event: Event) -> None:
    match event:
        case OrderCreatedPending():
            state.order = event.order
            state.deadline = event.deadline
        case OrderConfirmed():
            state.first_end = event
        case OrderCanceled():
            state.first_end = state.first_end or event
            state.reason = event.reason
        case _:
            assert_never(event)
