"""An order is accepted once, ends once, and the customer may cancel it before or after."""

from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from contracts import (
    CouponUseFailed,
    Line,
    Order,
    OrderCanceled,
    OrderConfirmed,
    PointUseFailed,
    ProductReserveFailed,
    Reason,
)
from order_svc.domain import Cancel, Expire, NoSuchOrder, Place, PlacedDifferently, State
from order_svc.reactions import REACTIONS
from tests.domain.spec import given, heard_by, state_after
from tests.examples import (
    CAUSE,
    CUSTOMER,
    DEADLINE,
    INSTANT,
    MUG,
    NOW,
    ORDER,
    ORDER_ID,
    OTHER_ID,
    PLAIN,
    STRANGER,
    TEA,
    coupon_used,
    order_canceled,
    order_confirmed,
    order_created,
    reserve_failed,
    use_of_coupon_failed,
    use_of_points_failed,
    with_amounts,
)

hears = heard_by(REACTIONS)

Refusal = ProductReserveFailed | PointUseFailed | CouponUseFailed

REFUSALS: list[Refusal] = [
    reserve_failed("product-out-of-stock"),
    reserve_failed("product-unknown"),
    use_of_points_failed("points-insufficient"),
    use_of_points_failed("points-exceed-total"),
    use_of_coupon_failed("coupon-unknown"),
    use_of_coupon_failed("coupon-already-used"),
    use_of_coupon_failed("coupon-expired"),
    use_of_coupon_failed("coupon-not-yours"),
]
ENDS: list[OrderConfirmed | OrderCanceled] = [
    order_confirmed(),
    order_canceled("coupon-expired"),
    order_canceled("deadline-exceeded"),
    order_canceled("customer-canceled", cause=None),
]
CANCELS: list[Reason] = ["product-unknown", "deadline-exceeded", "customer-canceled"]


def place(order: Order = ORDER, after: timedelta = timedelta(0)) -> Place:
    return Place(ORDER_ID, order, DEADLINE + after, at=NOW + after)


def expire(at: datetime) -> Expire:
    return Expire(ORDER_ID, at=at, cause=CAUSE)


def cancel(user_id: str = CUSTOMER) -> Cancel:
    return Cancel(ORDER_ID, user_id, at=NOW)


def name(fact: object) -> str:
    return f"{type(fact).__name__}-{getattr(fact, 'reason', '')}"


# Placing --------------------------------------------------------------------------------------------------------------


def test_an_order_is_accepted_with_its_deadline() -> None:
    given().when(place()).then(order_created())


def test_an_order_placed_twice_is_accepted_once() -> None:
    given(order_created()).when(place()).then_nothing()


def test_an_order_placed_twice_in_one_batch_is_accepted_once() -> None:
    given().when(place(), place()).then(order_created())


def test_an_order_placed_again_later_keeps_its_first_acceptance_and_deadline() -> None:
    later = timedelta(seconds=20)
    again = place(replace(ORDER, placed_at=ORDER.placed_at + later), after=later)
    given(order_created()).when(again).then_nothing()


@pytest.mark.parametrize("end", ENDS, ids=name)
def test_an_order_placed_again_after_its_end_stays_ended(end: OrderConfirmed | OrderCanceled) -> None:
    given(order_created(), end).when(place()).then_nothing()


OTHER_BODIES = {
    "other points": replace(ORDER, points=501),
    "no coupon": replace(ORDER, coupon_id=None),
    "other coupon": replace(ORDER, coupon_id="autumn"),
    "other quantity": replace(ORDER, lines=(Line(MUG, 3),)),
    "other product": replace(ORDER, lines=(Line(TEA, 2),)),
    "one line more": replace(ORDER, lines=(Line(MUG, 2), Line(TEA, 1))),
    "other customer": replace(ORDER, user_id=STRANGER),
}


@pytest.mark.parametrize("other", OTHER_BODIES.values(), ids=OTHER_BODIES)
def test_the_same_key_with_another_body_is_an_error(other: Order) -> None:
    given(order_created()).when(place(other)).then_raises(PlacedDifferently(ORDER_ID))


def test_the_order_of_the_lines_is_part_of_the_body() -> None:
    lines = (Line(MUG, 2), Line(TEA, 1))
    placed = order_created(replace(ORDER, lines=lines))
    given(placed).when(place(replace(ORDER, lines=lines[::-1]))).then_raises(PlacedDifferently(ORDER_ID))


@pytest.mark.parametrize("end", ENDS, ids=name)
def test_the_same_key_with_another_body_is_an_error_after_the_end_too(end: OrderConfirmed | OrderCanceled) -> None:
    given(order_created(), end).when(place(PLAIN)).then_raises(PlacedDifferently(ORDER_ID))


# Confirming -----------------------------------------------------------------------------------------------------------


def test_the_last_step_confirms_the_order() -> None:
    confirmed = order_confirmed()
    assert (confirmed.total, confirmed.points, confirmed.discount, confirmed.amount_due) == (20_000, 500, 300, 19_200)
    given(order_created()).when(hears(coupon_used())).then(confirmed)


def test_an_order_without_points_and_coupon_is_due_in_full() -> None:
    confirmed = order_confirmed(PLAIN, discount=0)
    assert confirmed.amount_due == confirmed.total
    given(order_created(PLAIN)).when(hears(coupon_used(PLAIN, discount=0))).then(confirmed)


def test_an_order_paid_with_points_alone_has_nothing_due() -> None:
    paid = replace(ORDER, points=20_000)
    confirmed = order_confirmed(paid, discount=0)
    assert confirmed.amount_due == 0
    given(order_created(paid)).when(hears(coupon_used(paid, discount=0))).then(confirmed)


def test_an_order_confirmed_twice_is_confirmed_once() -> None:
    given(order_created(), order_confirmed()).when(hears(coupon_used())).then_nothing()
    given(order_created()).when(hears(coupon_used()), hears(coupon_used())).then(order_confirmed())


@pytest.mark.parametrize("reason", CANCELS)
def test_a_canceled_order_is_not_confirmed(reason: Reason) -> None:
    given(order_created(), order_canceled(reason)).when(hears(coupon_used())).then_nothing()


def test_an_order_that_was_never_accepted_is_not_confirmed() -> None:
    given().when(hears(coupon_used())).then_nothing()


# Refusing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", REFUSALS, ids=name)
def test_a_refusal_cancels_the_order_with_its_reason(refusal: Refusal) -> None:
    canceled = with_amounts(order_canceled(refusal.reason), refusal)
    given(order_created()).when(hears(refusal)).then(canceled)


@pytest.mark.parametrize("refusal", REFUSALS, ids=name)
def test_an_order_refused_twice_is_canceled_once(refusal: Refusal) -> None:
    canceled = with_amounts(order_canceled(refusal.reason), refusal)
    given(order_created(), canceled).when(hears(refusal)).then_nothing()
    given(order_created()).when(hears(refusal), hears(refusal)).then(canceled)


@pytest.mark.parametrize("refusal", REFUSALS, ids=name)
def test_a_refusal_ends_no_order_that_has_ended(refusal: Refusal) -> None:
    for end in ENDS:
        given(order_created(), end).when(hears(refusal)).then_nothing()


@pytest.mark.parametrize("refusal", REFUSALS, ids=name)
def test_a_refusal_of_an_order_that_was_never_accepted_means_nothing(refusal: Refusal) -> None:
    given().when(hears(refusal)).then_nothing()


# The deadline ---------------------------------------------------------------------------------------------------------


def test_nothing_happens_before_the_deadline() -> None:
    given(order_created()).when(expire(DEADLINE - INSTANT)).then_nothing()


@pytest.mark.parametrize("at", [DEADLINE, DEADLINE + INSTANT, DEADLINE + timedelta(days=1)], ids=str)
def test_at_its_deadline_and_after_it_an_open_order_is_canceled(at: datetime) -> None:
    given(order_created()).when(expire(at)).then(order_canceled("deadline-exceeded", at=at))


def test_an_order_out_of_time_is_canceled_once() -> None:
    given(order_created(), order_canceled("deadline-exceeded")).when(expire(DEADLINE)).then_nothing()
    given(order_created()).when(expire(DEADLINE), expire(DEADLINE)).then(
        order_canceled("deadline-exceeded", at=DEADLINE)
    )


@pytest.mark.parametrize("end", ENDS, ids=name)
def test_the_deadline_means_nothing_to_an_order_that_has_ended(end: OrderConfirmed | OrderCanceled) -> None:
    given(order_created(), end).when(expire(DEADLINE)).then_nothing()


def test_the_deadline_of_an_order_that_was_never_accepted_means_nothing() -> None:
    given().when(expire(DEADLINE)).then_nothing()


def test_the_deadline_wins_when_it_comes_before_the_last_step() -> None:
    expired = order_canceled("deadline-exceeded", at=DEADLINE)
    given(order_created()).when(expire(DEADLINE), hears(coupon_used())).then(expired)


def test_the_last_step_wins_when_it_comes_before_the_deadline() -> None:
    given(order_created()).when(hears(coupon_used()), expire(DEADLINE)).then(order_confirmed())


def test_a_refusal_and_the_deadline_have_one_winner() -> None:
    refused, expired = use_of_coupon_failed("coupon-expired"), expire(DEADLINE)
    canceled = with_amounts(order_canceled("coupon-expired"), refused)
    given(order_created()).when(hears(refused), expired).then(canceled)
    given(order_created()).when(expired, hears(refused)).then(order_canceled("deadline-exceeded", at=DEADLINE))


# The customer's cancel ------------------------------------------------------------------------------------------------

BY_CUSTOMER = order_canceled("customer-canceled", cause=None)
TAKEN_BACK = with_amounts(BY_CUSTOMER, order_confirmed())
"""Of an order that was confirmed, the amounts are known."""


def test_the_customer_cancels_a_pending_order() -> None:
    given(order_created()).when(cancel()).then(BY_CUSTOMER)


def test_the_customer_cancels_a_confirmed_order() -> None:
    given(order_created(), order_confirmed()).when(cancel()).then(TAKEN_BACK)


def test_an_order_canceled_twice_is_canceled_once() -> None:
    given(order_created()).when(cancel(), cancel()).then(BY_CUSTOMER)
    given(order_created(), order_confirmed(), TAKEN_BACK).when(cancel()).then_nothing()


@pytest.mark.parametrize("reason", CANCELS)
def test_a_canceled_order_is_not_canceled_again(reason: Reason) -> None:
    given(order_created(), order_canceled(reason)).when(cancel()).then_nothing()


@pytest.mark.parametrize("end", [None, *ENDS], ids=name)
def test_somebody_elses_order_does_not_exist_for_a_customer(end: OrderConfirmed | OrderCanceled | None) -> None:
    facts = [order_created()] if end is None else [order_created(), end]
    given(*facts).when(cancel(STRANGER)).then_raises(NoSuchOrder(ORDER_ID))


def test_an_order_that_was_never_accepted_cannot_be_canceled() -> None:
    given(order_created(order_id=OTHER_ID)).when(cancel()).then_raises(NoSuchOrder(ORDER_ID))


def test_the_customers_cancel_and_the_last_step_have_one_winner_at_a_time() -> None:
    given(order_created()).when(cancel(), hears(coupon_used())).then(BY_CUSTOMER)
    given(order_created()).when(hears(coupon_used()), cancel()).then(order_confirmed(), TAKEN_BACK)


# What a reader is told ------------------------------------------------------------------------------------------------


def test_the_status_follows_the_facts() -> None:
    assert State().status is None
    assert state_after(order_created()).status == "PENDING"
    assert state_after(order_created(), order_confirmed()).status == "CONFIRMED"
    for reason in CANCELS:
        assert state_after(order_created(), order_canceled(reason)).status == "CANCELED"
    assert state_after(order_created(), order_confirmed(), BY_CUSTOMER).status == "CANCELED"


@pytest.mark.parametrize("end", ENDS, ids=name)
def test_the_first_end_is_the_answer_for_ever(end: OrderConfirmed | OrderCanceled) -> None:
    assert state_after(order_created(), end).first_end == end


def test_a_later_cancel_does_not_change_the_first_end() -> None:
    state = state_after(order_created(), order_confirmed(), BY_CUSTOMER)
    assert (state.first_end, state.reason) == (order_confirmed(), "customer-canceled")
