"""An order's use of its coupon: coupon_svc's answer to the order. One decision covers the use and the coupon."""

from typing import ClassVar, Literal, assert_never

from msgspec import Struct

from contracts.command import Reaction
from contracts.coupon import (
    CouponHeld,
    CouponRestored,
    CouponReturned,
    CouponUsed,
    CouponUseFailed,
    CouponUseVoided,
    coupon_stream,
)
from contracts.fact import WITHDRAWALS, CouponRefusal, Order
from contracts.order import OrderCanceled
from contracts.point import PointUsed
from coupon_svc.domain import coupon

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = CouponUsed | CouponUseFailed | CouponRestored | CouponUseVoided


# Commands -------------------------------------------------------------------------------------------------------------
class UseReaction(Reaction, frozen=True):
    @property
    def streams(self) -> tuple[str, ...]:
        """The name of the use's stream; then that of the order's coupon, if it has one."""
        coupon_id = self.fact.order.coupon_id
        use = coupon_stream(coupon_id, self.fact.order_id)
        return (use,) if coupon_id is None else (use, f"coupon-{coupon_id}")


class Use(UseReaction, frozen=True):
    """Let the order use its coupon, or refuse the order. An order without a coupon gets the answer CouponUsed, too.

    Does nothing if the order has an answer already; a fence is one, too.
    """

    says: ClassVar = (CouponHeld, CouponUsed, CouponUseFailed)
    fact: PointUsed


class Restore(UseReaction, frozen=True):
    """Take the coupon back from the order. If the order's Use has not come yet, the order will never get the coupon.

    Does nothing if a refusal canceled the order: the refusing step is this one or an earlier one, so no coupon is used.
    An order without a coupon gets the answer CouponRestored or CouponUseVoided, too.
    """

    says: ClassVar = (CouponReturned, CouponRestored, CouponUseVoided)
    fact: OrderCanceled


Command = Use | Restore


# State ----------------------------------------------------------------------------------------------------------------
class State(Struct):
    """The last answer that the order got; None until it got one. Only "used" means that the order has its coupon."""

    answer: Literal["used", "refused", "restored", "voided"] | None = None


# Decide ---------------------------------------------------------------------------------------------------------------
def decide(command: Command, state: State, *coupons: coupon.State) -> tuple[Event | coupon.Event, ...]:
    """Return the command's facts; none if nothing is to be done.

    `coupons`: the state of the order's coupon, if the order has one.
    """
    match command:
        case Use():
            if state.answer is not None:
                return ()  # answered already, or fenced
            return _use(command, coupons)
        case Restore(fact) if fact.reason not in WITHDRAWALS:
            return ()  # the step that refused is this one, or came before it
        case Restore(fact):
            coupon_id = fact.order.coupon_id
            if state.answer is None:
                return (CouponUseVoided(coupon_id=coupon_id, **command.about_order()),)
            if state.answer != "used":
                return ()  # the order does not have it
            restored = CouponRestored(coupon_id=coupon_id, **command.about_order())
            return (*_moved(CouponReturned, command), restored)
        case _:
            assert_never(command)


def _use(command: Use, coupons: tuple[coupon.State, ...]) -> tuple[Event | coupon.Event, ...]:
    fact, coupon_id = command.fact, command.fact.order.coupon_id
    if coupon_id is None:
        return (CouponUsed(coupon_id=None, discount=0, **command.priced_order()),)
    (state,) = coupons
    refusal = _refusal(fact.order, state)
    if refusal is not None:
        return (CouponUseFailed(coupon_id=coupon_id, reason=refusal, **command.priced_order()),)
    discount = min(state.discount, fact.total - fact.points)
    used = CouponUsed(coupon_id=coupon_id, discount=discount, **command.priced_order())
    return (*_moved(CouponHeld, command), used)


def _refusal(order: Order, state: coupon.State) -> CouponRefusal | None:
    if state.user_id is None or state.expires_at is None:
        return "coupon-unknown"
    if state.user_id != order.user_id:
        return "coupon-not-yours"
    if state.order_id is not None:
        return "coupon-already-used"
    return "coupon-expired" if order.placed_at >= state.expires_at else None


def _moved(fact: type[CouponHeld] | type[CouponReturned], command: Command) -> tuple[coupon.Event, ...]:
    """Make the fact of this type about the order's coupon; none without a coupon."""
    coupon_id = command.fact.order.coupon_id
    if coupon_id is None:
        return ()  # there is none
    return (fact(coupon_id=coupon_id, order_id=command.fact.order_id, **command.stamp()),)


# Evolve ---------------------------------------------------------------------------------------------------------------
def evolve(state: State, event: Event) -> None:
    match event:
        case CouponUsed():
            state.answer = "used"
        case CouponUseFailed():
            state.answer = "refused"
        case CouponRestored():
            state.answer = "restored"
        case CouponUseVoided():
            state.answer = "voided"
        case _:
            assert_never(event)
