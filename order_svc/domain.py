"""An order is pending until all three steps are done or one refuses; whoever comes first ends it, and it ends once."""

from datetime import datetime
from typing import ClassVar, Literal, assert_never

from msgspec import Struct

from contracts import (
    CouponUsed,
    CouponUseFailed,
    Order,
    OrderCanceled,
    OrderConfirmed,
    OrderCreatedPending,
    PointUseFailed,
    PricedFact,
    ProductReserveFailed,
    Reason,
)

# Events ---------------------------------------------------------------------------------------------------------------

Event = OrderCreatedPending | OrderConfirmed | OrderCanceled

# Commands -------------------------------------------------------------------------------------------------------------


class Place(Struct, frozen=True):
    """Accept an order; what has not ended by `deadline` will be canceled."""

    says: ClassVar = (OrderCreatedPending,)

    order_id: str
    order: Order
    deadline: datetime
    at: datetime
    cause: str | None = None

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"order-{self.order_id}",)


class Confirm(Struct, frozen=True):
    """The last step is done."""

    says: ClassVar = (OrderConfirmed,)

    fact: CouponUsed
    at: datetime
    cause: str | None

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"order-{self.fact.order_id}",)


class Refuse(Struct, frozen=True):
    """A step refused the order."""

    says: ClassVar = (OrderCanceled,)

    fact: ProductReserveFailed | PointUseFailed | CouponUseFailed
    at: datetime
    cause: str | None

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"order-{self.fact.order_id}",)


class Expire(Struct, frozen=True):
    """Time has passed: end the order if its deadline has."""

    says: ClassVar = (OrderCanceled,)

    order_id: str
    at: datetime
    cause: str | None

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"order-{self.order_id}",)


class Cancel(Struct, frozen=True):
    """The customer does not want it any more, pending or confirmed."""

    says: ClassVar = (OrderCanceled,)

    order_id: str
    user_id: str
    at: datetime
    cause: str | None = None

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"order-{self.order_id}",)


Command = Place | Confirm | Refuse | Expire | Cancel


class PlacedDifferently(Exception):
    """This order exists with other lines, points or coupon: the idempotency key was used for another request."""


class NoSuchOrder(Exception):
    """There is no such order, or it is somebody else's."""


# State ----------------------------------------------------------------------------------------------------------------

Status = Literal["PENDING", "CONFIRMED", "CANCELED"]


class State(Struct):
    """`first_end` is the answer to the request that placed the order; a later cancel does not change it."""

    order: Order | None = None
    deadline: datetime | None = None
    first_end: OrderConfirmed | OrderCanceled | None = None
    reason: Reason | None = None

    @property
    def status(self) -> Status | None:
        """None: there is no such order."""
        if self.order is None:
            return None
        if self.reason is not None:
            return "CANCELED"
        return "PENDING" if self.first_end is None else "CONFIRMED"


# Decide ---------------------------------------------------------------------------------------------------------------


def decide(command: Command, state: State) -> tuple[Event, ...]:
    match command:
        case Place():
            return _place(command, state)
        case Confirm(fact):
            if state.status != "PENDING":
                return ()  # ended already, or never accepted here
            return (
                OrderConfirmed(
                    at=command.at,
                    cause=command.cause,
                    order_id=fact.order_id,
                    order=fact.order,
                    unit_prices=fact.unit_prices,
                    total=fact.total,
                    points=fact.order.points,
                    discount=fact.discount,
                    amount_due=fact.total - fact.order.points - fact.discount,
                ),
            )
        case Refuse(fact):
            if state.status != "PENDING":
                return ()  # ended already, or never accepted here
            priced = fact if isinstance(fact, PricedFact) else None
            return (_canceled(command, fact.order_id, fact.order, fact.reason, priced),)
        case Expire():
            if state.status != "PENDING" or state.order is None:
                return ()  # ended in time
            if state.deadline is None or command.at < state.deadline:
                return ()  # not yet
            return (_canceled(command, command.order_id, state.order, "deadline-exceeded"),)
        case Cancel():
            if state.order is None or state.order.user_id != command.user_id:
                raise NoSuchOrder(command.order_id)
            if state.status == "CANCELED":
                return ()  # over already
            confirmed = state.first_end if isinstance(state.first_end, OrderConfirmed) else None
            return (_canceled(command, command.order_id, state.order, "customer-canceled", confirmed),)
        case _:
            assert_never(command)


def _place(command: Place, state: State) -> tuple[Event, ...]:
    order, placed = command.order, state.order
    if placed is None:
        return (
            OrderCreatedPending(
                at=command.at,
                cause=command.cause,
                order_id=command.order_id,
                order=order,
                deadline=command.deadline,
            ),
        )
    if (order.user_id, order.lines, order.points, order.coupon_id) != (
        placed.user_id,
        placed.lines,
        placed.points,
        placed.coupon_id,
    ):
        raise PlacedDifferently(command.order_id)
    return ()  # placed already


def _canceled(
    command: Refuse | Expire | Cancel, order_id: str, order: Order, reason: Reason, known: PricedFact | None = None
) -> OrderCanceled:
    return OrderCanceled(
        at=command.at,
        cause=command.cause,
        order_id=order_id,
        order=order,
        reason=reason,
        unit_prices=known.unit_prices if known else None,
        total=known.total if known else None,
        discount=known.discount if isinstance(known, OrderConfirmed) else None,
    )


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
