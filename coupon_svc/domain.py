"""A coupon is in use by at most one order; given back, another order may use it."""

from datetime import datetime
from typing import ClassVar, Literal, assert_never

from msgspec import Struct, field

from contracts import (
    WITHDRAWALS,
    CouponIssued,
    CouponRefusal,
    CouponRestored,
    CouponUsed,
    CouponUseFailed,
    CouponUseVoided,
    OrderCanceled,
    PointUsed,
    coupon_stream,
)

# Events ---------------------------------------------------------------------------------------------------------------

Event = CouponIssued | CouponUsed | CouponUseFailed | CouponRestored | CouponUseVoided

# Commands -------------------------------------------------------------------------------------------------------------


class Issue(Struct, frozen=True):
    """Give a customer a coupon worth up to `discount` won, for orders accepted before `expires_at`."""

    says: ClassVar = (CouponIssued,)

    coupon_id: str
    user_id: str
    discount: int
    expires_at: datetime
    at: datetime
    cause: str | None = None

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"coupon-{self.coupon_id}",)


class Use(Struct, frozen=True):
    """Let the order have its coupon; an order without one is answered all the same."""

    says: ClassVar = (CouponUsed, CouponUseFailed)

    fact: PointUsed
    at: datetime
    cause: str | None

    @property
    def streams(self) -> tuple[str, ...]:
        return (coupon_stream(self.fact.order.coupon_id, self.fact.order_id),)


class Restore(Struct, frozen=True):
    """Take the coupon back from the order; if it has not come yet, see that it never has it."""

    says: ClassVar = (CouponRestored, CouponUseVoided)

    fact: OrderCanceled
    at: datetime
    cause: str | None

    @property
    def streams(self) -> tuple[str, ...]:
        return (coupon_stream(self.fact.order.coupon_id, self.fact.order_id),)


Command = Issue | Use | Restore


class IssuedDifferently(Exception):
    """This coupon was issued to another customer, or with another discount or expiry."""


# State ----------------------------------------------------------------------------------------------------------------


class State(Struct):
    """`order_id` is the order that uses the coupon; `answers` what each order that asked for it was told last."""

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
                    at=command.at,
                    cause=command.cause,
                    coupon_id=coupon_id,
                    user_id=user_id,
                    discount=discount,
                    expires_at=expires_at,
                ),
            )
        case Use(fact):
            if fact.order_id in state.answers:
                return ()  # answered already, or fenced
            return (_use(command, state),)
        case Restore(fact) if fact.reason not in WITHDRAWALS:
            return ()  # the step that refused is this one, or came before it
        case Restore(fact):
            match state.answers.get(fact.order_id):
                case "used":
                    return (
                        CouponRestored(
                            at=command.at,
                            cause=command.cause,
                            order_id=fact.order_id,
                            order=fact.order,
                            coupon_id=fact.order.coupon_id,
                        ),
                    )
                case None:
                    return (
                        CouponUseVoided(
                            at=command.at,
                            cause=command.cause,
                            order_id=fact.order_id,
                            order=fact.order,
                            coupon_id=fact.order.coupon_id,
                        ),
                    )
                case _:
                    return ()  # the order does not have it
        case _:
            assert_never(command)


def _use(command: Use, state: State) -> CouponUsed | CouponUseFailed:
    fact, order = command.fact, command.fact.order
    if order.coupon_id is None:
        return _used(command, 0)
    refusal: CouponRefusal
    if state.user_id is None or state.expires_at is None:
        refusal = "coupon-unknown"
    elif state.user_id != order.user_id:
        refusal = "coupon-not-yours"
    elif state.order_id is not None:
        refusal = "coupon-already-used"
    elif order.placed_at >= state.expires_at:
        refusal = "coupon-expired"
    else:
        return _used(command, min(state.discount, fact.total - fact.points))
    return CouponUseFailed(
        at=command.at,
        cause=command.cause,
        order_id=fact.order_id,
        order=order,
        unit_prices=fact.unit_prices,
        total=fact.total,
        coupon_id=order.coupon_id,
        reason=refusal,
    )


def _used(command: Use, discount: int) -> CouponUsed:
    fact = command.fact
    return CouponUsed(
        at=command.at,
        cause=command.cause,
        order_id=fact.order_id,
        order=fact.order,
        unit_prices=fact.unit_prices,
        total=fact.total,
        coupon_id=fact.order.coupon_id,
        discount=discount,
    )


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
