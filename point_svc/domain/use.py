"""An order's use of points: point_svc's answer to the order. One decision covers the use and the customer's account."""

from typing import ClassVar, Literal, assert_never

from msgspec import Struct

from contracts.command import Reaction
from contracts.coupon import CouponUseFailed
from contracts.fact import WITHDRAWALS
from contracts.order import OrderCanceled
from contracts.point import PointCredited, PointDebited, PointRefunded, PointUsed, PointUseFailed, PointUseVoided
from contracts.product import ProductReserved
from point_svc.domain import account

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = PointUsed | PointUseFailed | PointRefunded | PointUseVoided


# Commands -------------------------------------------------------------------------------------------------------------
class UseReaction(Reaction, frozen=True):
    @property
    def streams(self) -> tuple[str, ...]:
        """The name of the use's stream; then that of the customer's account, if the order asks for points."""
        fact = self.fact
        use = f"pointuse-{fact.order_id}"
        return (use, f"account-{fact.order.user_id}") if fact.order.points else (use,)


class Use(UseReaction, frozen=True):
    """Take the order's points from its customer's account, or refuse the order and take none.

    Does nothing if the order has an answer already; a fence is one, too.
    """

    says: ClassVar = (PointDebited, PointUsed, PointUseFailed)
    fact: ProductReserved


class Refund(UseReaction, frozen=True):
    """Put the order's points back. If its Use has not come yet, make sure that the order never uses any.

    Does nothing for an OrderCanceled that a refusal led to: if points were used, point_svc hears that refusal itself.
    """

    says: ClassVar = (PointCredited, PointRefunded, PointUseVoided)
    fact: CouponUseFailed | OrderCanceled


Command = Use | Refund


# State ----------------------------------------------------------------------------------------------------------------
class State(Struct):
    """The last answer that the order got; None until it got one. Only "used" means that `points` are taken."""

    answer: Literal["used", "refused", "refunded", "voided"] | None = None
    points: int = 0


# Decide ---------------------------------------------------------------------------------------------------------------
def decide(command: Command, state: State, *accounts: account.State) -> tuple[Event | account.Event, ...]:
    """Return the command's facts; none if nothing is to be done.

    `accounts`: the state of the customer's account, if the order asks for points.
    """
    match command:
        case Use():
            if state.answer is not None:
                return ()  # answered already, or fenced
            return _use(command, accounts)
        case Refund(OrderCanceled(reason=reason)) if reason not in WITHDRAWALS:
            return ()  # the refusal itself reaches every step that acted
        case Refund():
            if state.answer is None:
                return (PointUseVoided(**command.about_order()),)
            if state.answer != "used":
                return ()  # nothing is used
            refunded = PointRefunded(points=state.points, **command.about_order())
            return (*_moved(PointCredited, command, state.points), refunded)
        case _:
            assert_never(command)


def _use(command: Use, accounts: tuple[account.State, ...]) -> tuple[Event | account.Event, ...]:
    points = command.fact.order.points
    if points > command.fact.total:
        return (PointUseFailed(reason="points-exceed-total", **command.priced_order()),)
    if any(points > one.balance for one in accounts):
        return (PointUseFailed(reason="points-insufficient", **command.priced_order()),)
    return (*_moved(PointDebited, command, points), PointUsed(points=points, **command.priced_order()))


def _moved(fact: type[PointDebited] | type[PointCredited], command: Command, points: int) -> tuple[account.Event, ...]:
    """Make the account's ledger fact of this type; none for 0 points."""
    if not points:
        return ()  # nothing moves
    heard = command.fact
    return (fact(user_id=heard.order.user_id, order_id=heard.order_id, points=points, **command.stamp()),)


# Evolve ---------------------------------------------------------------------------------------------------------------
def evolve(state: State, event: Event) -> None:
    match event:
        case PointUsed():
            state.answer, state.points = "used", event.points
        case PointUseFailed():
            state.answer = "refused"
        case PointRefunded():
            state.answer = "refunded"
        case PointUseVoided():
            state.answer = "voided"
        case _:
            assert_never(event)
