"""An account is charged once per key; an order gets its points once, returns them once, or never gets any."""

import pytest
from msgspec.structs import replace

from contracts import MOST, OrderCanceled, Reason, SagaFact
from point_svc.domain.charge import Charge, ChargedDifferently, ChargedTooMuch
from point_svc.reactions import REACTIONS
from tests.domain.spec import given, heard_by, state_after
from tests.examples import (
    CUSTOMER,
    NOW,
    ORDER,
    OTHER_ID,
    PLAIN,
    charging,
    order_canceled,
    points_refunded,
    points_used,
    product_reserved,
    refunding,
    use_of_coupon_failed,
    use_of_points_failed,
    use_of_points_voided,
    using,
)

hears = heard_by(REACTIONS)

USED = (*charging(500), *using())
REFUNDED = (*USED, *refunding())
REFUSED = (*charging(499), use_of_points_failed("points-insufficient"))
UNDOS: dict[str, SagaFact] = {
    "coupon refused": use_of_coupon_failed("coupon-expired"),
    "deadline": order_canceled("deadline-exceeded"),
    "customer": order_canceled("customer-canceled"),
}
REFUSALS: list[Reason] = ["product-unknown", "points-insufficient", "points-exceed-total", "coupon-expired"]
an_undo = pytest.mark.parametrize("undo", UNDOS.values(), ids=UNDOS)


def charge(amount: int, key: str = "first") -> Charge:
    return Charge(CUSTOMER, amount, key, at=NOW)


# Charging -------------------------------------------------------------------------------------------------------------


def test_an_account_is_charged() -> None:
    given().when(charge(5_000)).then(*charging(5_000))


def test_an_account_is_charged_once_per_key() -> None:
    given(*charging(5_000)).when(charge(5_000)).then_nothing()
    given().when(charge(5_000), charge(5_000)).then(*charging(5_000))


def test_another_key_charges_the_same_amount_again() -> None:
    given(*charging(5_000)).when(charge(5_000, "second")).then(*charging(5_000, "second"))


def test_the_same_key_with_another_amount_is_an_error() -> None:
    given(*charging(5_000)).when(charge(5_001)).then_raises(ChargedDifferently("first"))


def test_all_charges_of_an_account_together_stay_an_exact_number() -> None:
    given(*charging(MOST - 1)).when(charge(1, "second")).then(*charging(1, "second"))
    given(*charging(MOST - 1)).when(charge(2, "second")).then_raises(ChargedTooMuch(CUSTOMER))


def test_a_charge_that_filled_the_account_may_be_asked_for_again() -> None:
    given(*charging(MOST)).when(charge(MOST)).then_nothing()


def test_points_that_orders_use_leave_no_room_for_more_charges_since_they_may_come_back() -> None:
    given(*charging(MOST), *using()).when(charge(1, "second")).then_raises(ChargedTooMuch(CUSTOMER))


# Using ----------------------------------------------------------------------------------------------------------------


def test_an_order_uses_its_points() -> None:
    given(*charging(5_000)).when(hears(product_reserved())).then(*using())


def test_an_order_may_use_the_last_point() -> None:
    given(*charging(500)).when(hears(product_reserved())).then(*using())


def test_an_order_may_be_paid_with_points_alone() -> None:
    paid = replace(ORDER, points=20_000)
    given(*charging(20_000)).when(hears(product_reserved(paid))).then(*using(paid))


def test_an_order_without_points_uses_none() -> None:
    given(*charging(5_000)).when(hears(product_reserved(PLAIN))).then(points_used(PLAIN))


def test_an_order_without_points_needs_no_account() -> None:
    assert points_used(PLAIN).points == 0
    given().when(hears(product_reserved(PLAIN))).then(points_used(PLAIN))


def test_an_order_uses_its_points_once() -> None:
    given(*USED).when(hears(product_reserved())).then_nothing()
    given(*charging(5_000)).when(hears(product_reserved()), hears(product_reserved())).then(*using())


def test_an_order_without_points_is_answered_once() -> None:
    given().when(hears(product_reserved(PLAIN)), hears(product_reserved(PLAIN))).then(points_used(PLAIN))


# Refusing -------------------------------------------------------------------------------------------------------------


def test_an_order_of_more_points_than_there_are_is_refused() -> None:
    given(*charging(499)).when(hears(product_reserved())).then(use_of_points_failed("points-insufficient"))


def test_an_unknown_account_has_no_points() -> None:
    given().when(hears(product_reserved())).then(use_of_points_failed("points-insufficient"))


def test_an_order_of_more_points_than_it_costs_is_refused() -> None:
    generous = replace(ORDER, points=20_001)
    given(*charging(50_000)).when(hears(product_reserved(generous))).then(
        use_of_points_failed("points-exceed-total", generous)
    )


def test_an_order_that_fails_both_ways_is_told_that_it_wants_more_than_it_costs() -> None:
    generous = replace(ORDER, points=20_001)
    given(*charging(499)).when(hears(product_reserved(generous))).then(
        use_of_points_failed("points-exceed-total", generous)
    )


def test_an_order_refused_twice_is_refused_once() -> None:
    given(*REFUSED).when(hears(product_reserved())).then_nothing()
    given().when(hears(product_reserved()), hears(product_reserved())).then(use_of_points_failed("points-insufficient"))


def test_a_refused_order_stays_refused_though_points_have_come_since() -> None:
    given(*REFUSED, *charging(5_000, "second")).when(hears(product_reserved())).then_nothing()


def test_two_orders_of_one_batch_do_not_share_the_last_point() -> None:
    given(*charging(999)).when(hears(product_reserved()), hears(product_reserved(order_id=OTHER_ID))).then(
        *using(), use_of_points_failed("points-insufficient", order_id=OTHER_ID)
    )


# Refunding ------------------------------------------------------------------------------------------------------------


@an_undo
def test_what_an_order_used_is_refunded(undo: SagaFact) -> None:
    given(*USED).when(hears(undo)).then(*refunding())


@an_undo
def test_what_an_order_used_is_refunded_once(undo: SagaFact) -> None:
    given(*REFUNDED).when(*(hears(other) for other in UNDOS.values())).then_nothing()
    given(*USED).when(hears(undo), hears(undo)).then(*refunding())


def test_an_order_that_used_no_points_is_undone_too() -> None:
    given(points_used(PLAIN)).when(hears(order_canceled("customer-canceled", PLAIN))).then(points_refunded(PLAIN))


@an_undo
def test_an_order_that_was_refused_has_nothing_to_refund(undo: SagaFact) -> None:
    given(*REFUSED).when(hears(undo)).then_nothing()


def test_a_refunded_order_does_not_use_points_again() -> None:
    given(*REFUNDED).when(hears(product_reserved())).then_nothing()


def test_refunded_points_can_be_used_by_another_order() -> None:
    given(*REFUNDED).when(hears(product_reserved(order_id=OTHER_ID))).then(*using(order_id=OTHER_ID))


def test_only_the_canceled_order_is_refunded() -> None:
    both = (*charging(1_000), *using(), *using(order_id=OTHER_ID))
    given(*both).when(hears(order_canceled("customer-canceled", order_id=OTHER_ID))).then(*refunding(order_id=OTHER_ID))


# The undo came first --------------------------------------------------------------------------------------------------


@an_undo
def test_an_undo_that_comes_first_fences_the_order(undo: SagaFact) -> None:
    given(*charging(5_000)).when(hears(undo)).then(use_of_points_voided())


@an_undo
def test_a_fenced_order_uses_nothing_when_it_comes(undo: SagaFact) -> None:
    given(*charging(5_000), use_of_points_voided()).when(hears(product_reserved())).then_nothing()
    given(*charging(5_000)).when(hears(undo), hears(product_reserved())).then(use_of_points_voided())


@an_undo
def test_an_order_is_fenced_once(undo: SagaFact) -> None:
    given(use_of_points_voided()).when(hears(undo)).then_nothing()
    given().when(hears(undo), hears(undo)).then(use_of_points_voided())


def test_a_fence_moves_no_points() -> None:
    assert state_after(*charging(500), use_of_points_voided()).balance == 500
    given(*charging(500), use_of_points_voided()).when(hears(product_reserved(order_id=OTHER_ID))).then(
        *using(order_id=OTHER_ID)
    )


# A cancel that a refusal caused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("canceled", [order_canceled(reason) for reason in REFUSALS], ids=REFUSALS)
def test_a_cancel_caused_by_a_refusal_changes_nothing(canceled: OrderCanceled) -> None:
    given(*charging(5_000)).when(hears(canceled)).then_nothing()
    given(*USED).when(hears(canceled)).then_nothing()
    given(*REFUSED).when(hears(canceled)).then_nothing()
    given(*REFUNDED).when(hears(canceled)).then_nothing()


# The balance ----------------------------------------------------------------------------------------------------------


def test_the_balance_is_what_was_charged_less_what_orders_use() -> None:
    assert state_after(*charging(1_200), *charging(300, "second")).balance == 1_500
    assert state_after(*charging(1_200), *using(), *using(order_id=OTHER_ID)).balance == 200
    assert state_after(*USED, *refunding()).balance == 500
    assert state_after(*REFUSED).balance == 499
