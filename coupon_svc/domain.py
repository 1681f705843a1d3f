"""A coupon is in use by at most one order. Once it is given back, another order may use it."""

from datetime import datetime
from typing import ClassVar, Literal, assert_never

from msgspec import Struct, field

from contracts.command import Reaction, Request
from contracts.coupon import CouponIssued, CouponRestored, CouponUsed, CouponUseFailed, CouponUseVoided, coupon_stream
from contracts.fact import WITHDRAWALS, CouponRefusal, Order
from contracts.order import OrderCanceled
from contracts.point import PointUsed

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = CouponIssued | CouponUsed | CouponUseFailed | CouponRestored | CouponUseVoided


# Commands -------------------------------------------------------------------------------------------------------------
class Issue(Request, frozen=True):
    """Give a customer a coupon of up to `discount` won, once per coupon id, for orders accepted before `expires_at`."""

    says: ClassVar = (CouponIssued,)
    coupon_id: str
    user_id: str
    discount: int
    expires_at: datetime

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"coupon-{self.coupon_id}",)


class CouponReaction(Reaction, frozen=True):
    @property
    def streams(self) -> tuple[str, ...]:
        return (coupon_stream(self.fact.order.coupon_id, self.fact.order_id),)


class Use(CouponReaction, frozen=True):
    """Let the order use its coupon, or refuse the order. An order without a coupon gets the answer CouponUsed, too.

    Only the first Use of an order counts.
    """

    says: ClassVar = (CouponUsed, CouponUseFailed)
    fact: PointUsed


class Restore(CouponReaction, frozen=True):
    """Take the coupon back from the order. If its Use has not come yet, make sure that the order never gets the coupon.

    Does nothing if a refusal canceled the order: the step that refused is this one, or an earlier one.
    """

    says: ClassVar = (CouponRestored, CouponUseVoided)
    fact: OrderCanceled


Command = Issue | Use | Restore


class IssuedDifferently(Exception):
    """The coupon to issue was issued already, to another customer or with another discount or expiry."""


# State ----------------------------------------------------------------------------------------------------------------
class State(Struct):
    """One coupon, or the empty coupon of an order without one. `user_id`: its customer, None until it is issued.

    `order_id`: the order that uses the coupon now, or None. `answers` maps each order to the last answer it got.
    """

    user_id: str | None = None
    discount: int = 0
    expires_at: datetime | None = None
    order_id: str | None = None
    answers: dict[str, Literal["used", "refused", "restored", "voided"]] = field(default_factory=dict)


# Decide ---------------------------------------------------------------------------------------------------------------
def decide(command: Command, state: State) -> tuple[Event, ...]:
    match command:
        case Issue(coupon_id, user_id, discount, expires_at):
            if state.user_id is not None:
                if (user_id, discount, expires_at) != (state.user_id, state.discount, state.expires_at):
                    raise IssuedDifferently(coupon_id)
                return ()  # issued already
            return (
                CouponIssued(
                    **command.stamp(), coupon_id=coupon_id, user_id=user_id, discount=discount, expires_at=expires_at
                ),
            )
        case Use():
            if command.fact.order_id in state.answers:
                return ()  # answered already, or fenced
            return (_use(command, state),)
        case Restore(fact) if fact.reason not in WITHDRAWALS:
            return ()  # the step that refused is this one, or came before it
        case Restore(fact):
            answer = state.answers.get(fact.order_id)
            if answer == "used":
                return (CouponRestored(coupon_id=fact.order.coupon_id, **command.about_order()),)
            if answer is None:
                return (CouponUseVoided(coupon_id=fact.order.coupon_id, **command.about_order()),)
            return ()  # the order does not have it
        case _:
            assert_never(command)


def _use(command: Use, state: State) -> CouponUsed | CouponUseFailed:
    fact, coupon_id = command.fact, command.fact.order.coupon_id
    if coupon_id is None:
        return CouponUsed(coupon_id=None, discount=0, **command.priced_order())
    refusal = _refusal(fact.order, state)
    if refusal is not None:
        return CouponUseFailed(coupon_id=coupon_id, reason=refusal, **command.priced_order())
    discount = min(state.discount, fact.total - fact.points)
    return CouponUsed(coupon_id=coupon_id, discount=discount, **command.priced_order())


def _refusal(order: Order, state: State) -> CouponRefusal | None:
    if state.user_id is None or state.expires_at is None:
        return "coupon-unknown"
    if state.user_id != order.user_id:
        return "coupon-not-yours"
    if state.order_id is not None:
        return "coupon-already-used"
    return "coupon-expired" if order.placed_at >= state.expires_at else None


# Evolve ---------------------------------------------------------------------------------------------------------------
def evolve(state: State, event: Event) -> None:
    match event:
        case CouponUsed():
            state.order_id = None if event.coupon_id is None else event.order_id
            state.answers[event.order_id] = "used"
        case CouponUseFailed():
            state.answers[event.order_id] = "refused"
        case CouponRestored():
            state.order_id = None
            state.answers[event.order_id] = "restored"
        case CouponUseVoided():
            state.answers[event.order_id] = "voided"
        case CouponIssued():
            state.user_id = event.user_id
            state.discount = event.discount
            state.expires_at = event.expires_at
        case _:
            assert_never(event)
