"""A coupon is in use by at most one order. Its event stream says who has it: issued, held by an order, returned."""

from datetime import datetime
from typing import ClassVar, assert_never

from msgspec import Struct

from contracts.command import Request
from contracts.coupon import (
    CouponHeld,
    CouponIssued,
    CouponRestored,
    CouponReturned,
    CouponUsed,
    CouponUseFailed,
    CouponUseVoided,
)

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = CouponIssued | CouponHeld | CouponReturned
Earlier = CouponUsed | CouponUseFailed | CouponRestored | CouponUseVoided
"""What older code recorded in this stream, with neither CouponHeld nor CouponReturned beside it."""


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


Command = Issue


class IssuedDifferently(Exception):
    """The coupon to issue was issued already, to another customer or with another discount or expiry."""


# State ----------------------------------------------------------------------------------------------------------------
class State(Struct):
    """One coupon. `user_id`: its customer, None until it is issued. `order_id`: the order that uses it now, or None.

    The size of the state does not grow with the orders that try the coupon: each order's Use keeps the order's answer.
    """

    user_id: str | None = None
    discount: int = 0
    expires_at: datetime | None = None
    order_id: str | None = None


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
        case _:
            assert_never(command)


# Evolve ---------------------------------------------------------------------------------------------------------------
def evolve(state: State, event: Event | Earlier) -> None:
    match event:
        case CouponHeld() | CouponUsed():
            state.order_id = event.order_id
        case CouponReturned() | CouponRestored():
            state.order_id = None
        case CouponUseFailed() | CouponUseVoided():
            pass
        case CouponIssued():
            state.user_id = event.user_id
            state.discount = event.discount
            state.expires_at = event.expires_at
        case _:
            assert_never(event)
