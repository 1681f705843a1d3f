"""An account is a customer's balance of points, and the answer that each of the customer's orders got."""

from typing import ClassVar, Literal, assert_never

from msgspec import Struct, field

from contracts.command import Reaction, Request
from contracts.coupon import CouponUseFailed
from contracts.fact import MOST, WITHDRAWALS
from contracts.order import OrderCanceled
from contracts.point import PointCharged, PointRefunded, PointUsed, PointUseFailed, PointUseVoided
from contracts.product import ProductReserved

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = PointCharged | PointUsed | PointUseFailed | PointRefunded | PointUseVoided


# Commands -------------------------------------------------------------------------------------------------------------
class Charge(Request, frozen=True):
    """Put `amount` points into a customer's account, once per idempotency key."""

    says: ClassVar = (PointCharged,)
    user_id: str
    amount: int
    idempotency_key: str

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"account-{self.user_id}",)


class AccountReaction(Reaction, frozen=True):
    @property
    def streams(self) -> tuple[str, ...]:
        return (f"account-{self.fact.order.user_id}",)


class Use(AccountReaction, frozen=True):
    """Take the order's points from its customer's account, or refuse the order and take none.

    Only the first Use of an order counts.
    """

    says: ClassVar = (PointUsed, PointUseFailed)
    fact: ProductReserved


class Refund(AccountReaction, frozen=True):
    """Put the order's points back. If its Use has not come yet, make sure that the order never uses any.

    Does nothing for an OrderCanceled that a refusal led to: if points were used, point_svc hears that refusal itself.
    """

    says: ClassVar = (PointRefunded, PointUseVoided)
    fact: CouponUseFailed | OrderCanceled


Command = Charge | Use | Refund


class ChargedDifferently(Exception):
    """This idempotency key was used before, to charge this account with another amount."""


class ChargedTooMuch(Exception):
    """All charges that this account ever got would together exceed MOST."""


# State ----------------------------------------------------------------------------------------------------------------
class State(Struct):
    """One customer's account. `balance` in points; `charges` maps each idempotency key to the points charged.

    `used` maps each order that took its points, and has not given them back, to the number of points; it may be 0.
    `closed` maps each order that was refused, refunded or voided to that answer. No order is in both.
    """

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
            return (PointCharged(user_id=user_id, amount=amount, idempotency_key=key, **command.stamp()),)
        case Use():
            fact, points = command.fact, command.fact.order.points
            if fact.order_id in state.used or fact.order_id in state.closed:
                return ()  # answered already, or fenced
            if points > fact.total:
                return (PointUseFailed(reason="points-exceed-total", **command.priced_order()),)
            if points > state.balance:
                return (PointUseFailed(reason="points-insufficient", **command.priced_order()),)
            return (PointUsed(points=points, **command.priced_order()),)
        case Refund(OrderCanceled(reason=reason)) if reason not in WITHDRAWALS:
            return ()  # the refusal itself reaches every step that acted
        case Refund():
            order_id = command.fact.order_id
            if order_id in state.closed:
                return ()  # nothing is used
            if order_id in state.used:
                return (PointRefunded(points=state.used[order_id], **command.about_order()),)
            return (PointUseVoided(**command.about_order()),)
        case _:
            assert_never(command)


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
