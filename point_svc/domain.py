"""An account is a balance of points, and what each order was answered about it."""

from datetime import datetime
from typing import ClassVar, Literal, assert_never

from msgspec import Struct, field

from contracts import (
    MOST,
    WITHDRAWALS,
    CouponUseFailed,
    OrderCanceled,
    PointCharged,
    PointRefunded,
    PointRefusal,
    PointUsed,
    PointUseFailed,
    PointUseVoided,
    ProductReserved,
)

# Events ---------------------------------------------------------------------------------------------------------------

Event = PointCharged | PointUsed | PointUseFailed | PointRefunded | PointUseVoided

# Commands -------------------------------------------------------------------------------------------------------------


class Charge(Struct, frozen=True):
    """Put `amount` points into a customer's account, once per idempotency key."""

    says: ClassVar = (PointCharged,)

    user_id: str
    amount: int
    idempotency_key: str
    at: datetime
    cause: str | None = None

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"account-{self.user_id}",)


class Use(Struct, frozen=True):
    """Take the order's points from its customer's account."""

    says: ClassVar = (PointUsed, PointUseFailed)

    fact: ProductReserved
    at: datetime
    cause: str | None

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"account-{self.fact.order.user_id}",)


class Refund(Struct, frozen=True):
    """Put the order's points back; if it has not come yet, see that it never uses any."""

    says: ClassVar = (PointRefunded, PointUseVoided)

    fact: CouponUseFailed | OrderCanceled
    at: datetime
    cause: str | None

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"account-{self.fact.order.user_id}",)


Command = Charge | Use | Refund


class ChargedDifferently(Exception):
    """This idempotency key was used to charge another amount."""


class ChargedTooMuch(Exception):
    """All charges of this account together would be more than an amount can be."""


# State ----------------------------------------------------------------------------------------------------------------


class State(Struct):
    """`used`: the points of each order that was given them (0: none wanted); `closed`: the orders that have none."""

    balance: int = 0
    charges: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    closed: dict[str, Literal["refused", "refunded", "voided"]] = field(default_factory=dict)


# Decide ---------------------------------------------------------------------------------------------------------------


def decide(command: Command, state: State) -> tuple[Event, ...]:
    match command:
        case Charge(user_id, amount, key):
            if key in state.charges:
                if state.charges[key] != amount:
                    raise ChargedDifferently(key)
                return ()  # charged already
            if sum(state.charges.values()) + amount > MOST:
                raise ChargedTooMuch(user_id)
            return (
                PointCharged(at=command.at, cause=command.cause, user_id=user_id, amount=amount, idempotency_key=key),
            )
        case Use(fact):
            if fact.order_id in state.used or fact.order_id in state.closed:
                return ()  # answered already, or fenced
            return (_use(command, state),)
        case Refund(OrderCanceled(reason=reason)) if reason not in WITHDRAWALS:
            return ()  # the refusal itself reaches every step that acted
        case Refund(fact):
            if fact.order_id in state.closed:
                return ()  # nothing is used
            if fact.order_id in state.used:
                return (
                    PointRefunded(
                        at=command.at,
                        cause=command.cause,
                        order_id=fact.order_id,
                        order=fact.order,
                        points=state.used[fact.order_id],
                    ),
                )
            return (PointUseVoided(at=command.at, cause=command.cause, order_id=fact.order_id, order=fact.order),)
        case _:
            assert_never(command)


def _use(command: Use, state: State) -> PointUsed | PointUseFailed:
    fact, points = command.fact, command.fact.order.points
    refusal: PointRefusal | None = None
    if points > fact.total:
        refusal = "points-exceed-total"
    elif points > state.balance:
        refusal = "points-insufficient"
    if refusal is not None:
        return PointUseFailed(
            at=command.at,
            cause=command.cause,
            order_id=fact.order_id,
            order=fact.order,
            unit_prices=fact.unit_prices,
            total=fact.total,
            reason=refusal,
        )
    return PointUsed(
        at=command.at,
        cause=command.cause,
        order_id=fact.order_id,
        order=fact.order,
        unit_prices=fact.unit_prices,
        total=fact.total,
        points=points,
    )


# Evolve ---------------------------------------------------------------------------------------------------------------


def evolve(state: State, event: Event) -> None:
    match event:
        case PointUsed():
            state.balance -= event.points
            state.used[event.order_id] = event.points
        case PointUseFailed():
            state.closed[event.order_id] = "refused"
        case PointRefunded():
            state.balance += event.points
            del state.used[event.order_id]
            state.closed[event.order_id] = "refunded"
        case PointUseVoided():
            state.closed[event.order_id] = "voided"
        case PointCharged():
            state.balance += event.amount
            state.charges[event.idempotency_key] = event.amount
        case _:
            assert_never(event)
