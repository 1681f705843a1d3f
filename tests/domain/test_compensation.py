"""Canceled is not yet compensated: that needs the undo, or the fence, of whatever the order took or might take."""

from itertools import product
from typing import Final, get_args

import pytest

from contracts import (
    REASONS,
    WITHDRAWALS,
    CouponRefusal,
    OrderConfirmed,
    PointRefusal,
    ProductRefusal,
    Reason,
    SagaFact,
)
from contracts.step import Step
from contracts.wire import NAMES, STEPS
from order_svc.compensation import compensated, open_steps

PLACED: Final = {"order.created.pending", "order.canceled"}
RESERVED, POINTS_USED, COUPON_USED = "product.reserved", "point.used", "coupon.used"
RELEASED, REFUNDED, RESTORED = "product.released", "point.refunded", "coupon.restored"
NOT_RESERVED, NO_POINTS, NO_COUPON = "product.reserve.failed", "point.use.failed", "coupon.use.failed"
NEVER_RESERVED, NEVER_POINTS, NEVER_COUPON = "product.reserve.voided", "point.use.voided", "coupon.use.voided"

a_withdrawal = pytest.mark.parametrize("reason", sorted(WITHDRAWALS))

# Canceled by a refusal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", get_args(ProductRefusal))
def test_refused_by_the_products_there_is_nothing_to_give_back(reason: Reason) -> None:
    assert compensated(reason, {*PLACED, NOT_RESERVED})


@pytest.mark.parametrize("reason", get_args(PointRefusal))
def test_refused_by_the_account_the_products_have_to_be_released(reason: Reason) -> None:
    assert not compensated(reason, {*PLACED, RESERVED, NO_POINTS})
    assert compensated(reason, {*PLACED, RESERVED, NO_POINTS, RELEASED})
    assert compensated(reason, {*PLACED, NO_POINTS, NEVER_RESERVED})


@pytest.mark.parametrize("reason", get_args(CouponRefusal))
def test_refused_by_the_coupon_products_and_points_have_to_be_back(reason: Reason) -> None:
    refused = {*PLACED, RESERVED, POINTS_USED, NO_COUPON}
    assert not compensated(reason, refused)
    assert not compensated(reason, {*refused, RELEASED})
    assert not compensated(reason, {*refused, REFUNDED})
    assert compensated(reason, {*refused, RELEASED, REFUNDED})
    assert compensated(reason, {*refused, RELEASED, NEVER_POINTS})


@pytest.mark.parametrize("reason", [reason for reason in REASONS if reason not in WITHDRAWALS])
def test_of_an_order_whose_facts_have_not_been_heard_nothing_is_known(reason: Reason) -> None:
    assert not compensated(reason, set())
    assert not compensated(reason, PLACED)


# Withdrawn by the deadline or the customer ----------------------------------------------------------------------------


@a_withdrawal
def test_an_order_withdrawn_before_any_step_needs_all_three_fences(reason: Reason) -> None:
    fences = [NEVER_RESERVED, NEVER_POINTS, NEVER_COUPON]
    for count in range(3):
        assert not compensated(reason, {*PLACED, *fences[:count]})
        assert not compensated(reason, {*PLACED, *fences[::-1][:count]})
    assert compensated(reason, {*PLACED, *fences})


@a_withdrawal
def test_an_order_withdrawn_after_it_was_confirmed_needs_all_undos(reason: Reason) -> None:
    others = [step for step in STEPS.following if NAMES[step.done] not in (RESERVED, POINTS_USED, COUPON_USED)]
    done = {*PLACED, RESERVED, POINTS_USED, COUPON_USED, "order.confirmed", *(NAMES[step.done] for step in others)}
    undos = [RELEASED, REFUNDED, RESTORED, *(NAMES[step.undone] for step in others)]
    for missing in undos:
        assert not compensated(reason, {*done, *undos} - {missing})
    assert compensated(reason, {*done, *undos})


@a_withdrawal
def test_an_order_withdrawn_half_way_needs_undos_before_and_fences_after(reason: Reason) -> None:
    half_way = {*PLACED, RESERVED, POINTS_USED}
    assert not compensated(reason, {*half_way, RELEASED, REFUNDED})
    assert not compensated(reason, {*half_way, RELEASED, NEVER_COUPON})
    assert compensated(reason, {*half_way, RELEASED, REFUNDED, NEVER_COUPON})


@a_withdrawal
def test_a_step_that_refused_a_withdrawn_order_has_nothing_to_undo_but_the_others_have(reason: Reason) -> None:
    assert not compensated(reason, {*PLACED, NOT_RESERVED})
    assert compensated(reason, {*PLACED, NOT_RESERVED, NEVER_POINTS, NEVER_COUPON})
    assert not compensated(reason, {*PLACED, RESERVED, NO_POINTS, NEVER_COUPON})
    assert not compensated(reason, {*PLACED, RESERVED, NO_POINTS, RELEASED})
    assert compensated(reason, {*PLACED, RESERVED, NO_POINTS, RELEASED, NEVER_COUPON})
    assert compensated(reason, {*PLACED, RESERVED, POINTS_USED, NO_COUPON, RELEASED, REFUNDED})


# All of it ------------------------------------------------------------------------------------------------------------


def test_every_combination_of_closed_and_open_steps_follows_the_two_rules() -> None:
    for product_fact, point_fact, coupon_fact in product(
        ["", RESERVED, NOT_RESERVED, RELEASED, NEVER_RESERVED],
        ["", POINTS_USED, NO_POINTS, REFUNDED, NEVER_POINTS],
        ["", COUPON_USED, NO_COUPON, RESTORED, NEVER_COUPON],
    ):
        facts = {*PLACED, product_fact, point_fact, coupon_fact}
        released, refunded = product_fact in {RELEASED, NEVER_RESERVED}, point_fact in {REFUNDED, NEVER_POINTS}
        restored = coupon_fact in {RESTORED, NEVER_COUPON}
        withdrawn = (
            (released or product_fact == NOT_RESERVED)
            and (refunded or point_fact == NO_POINTS)
            and (restored or coupon_fact == NO_COUPON)
        )
        assert compensated("customer-canceled", facts) == withdrawn
        if product_fact == NOT_RESERVED:
            assert compensated("product-unknown", facts)
        elif point_fact == NO_POINTS:
            assert compensated("points-insufficient", facts) == released
        elif coupon_fact == NO_COUPON:
            assert compensated("coupon-expired", facts) == (released and refunded)


# A step that follows the confirmation ---------------------------------------------------------------------------------


class Packed(SagaFact, frozen=True, kw_only=True, tag="gift.packed"):
    """Stands for the `done` of a fifth service."""


class Unpacked(SagaFact, frozen=True, kw_only=True, tag="gift.unpacked"):
    """Its `undone`."""


class Voided(SagaFact, frozen=True, kw_only=True, tag="gift.voided"):
    """Its `fenced`."""


WITH_GIFT: Final = STEPS._replace(following=(Step(OrderConfirmed, Packed, Unpacked, Voided),))
BACK: Final = {*PLACED, RELEASED, REFUNDED, RESTORED}


@a_withdrawal
def test_a_step_that_was_done_after_the_confirmation_has_to_be_undone(reason: Reason) -> None:
    done = {*BACK, "order.confirmed", "gift.packed"}
    assert not compensated(reason, done, WITH_GIFT)
    assert compensated(reason, {*done, "gift.unpacked"}, WITH_GIFT)


@a_withdrawal
def test_a_step_that_a_confirmed_order_is_on_its_way_to_has_to_answer(reason: Reason) -> None:
    assert not compensated(reason, {*BACK, "order.confirmed"}, WITH_GIFT)
    assert compensated(reason, {*BACK, "order.confirmed", "gift.voided"}, WITH_GIFT)


@a_withdrawal
def test_a_step_that_was_done_has_to_be_undone_though_the_confirmation_is_not_known(reason: Reason) -> None:
    done = {*BACK, "gift.packed"}
    assert not compensated(reason, done, WITH_GIFT)
    assert compensated(reason, {*done, "gift.unpacked"}, WITH_GIFT)


def test_a_step_that_follows_counts_for_no_order_that_was_never_confirmed() -> None:
    assert compensated("customer-canceled", {*PLACED, NEVER_RESERVED, NEVER_POINTS, NEVER_COUPON}, WITH_GIFT)
    assert compensated("product-unknown", {*PLACED, NOT_RESERVED}, WITH_GIFT)


def test_the_steps_that_are_open_are_named() -> None:
    refused = {*PLACED, RESERVED, POINTS_USED, NO_COUPON}

    assert [step.service for step in open_steps("coupon-expired", refused)] == ["product", "point"]
    assert [step.service for step in open_steps("coupon-expired", {*refused, RELEASED})] == ["point"]
    assert open_steps("coupon-expired", {*refused, RELEASED, REFUNDED}) == []
    assert [step.service for step in open_steps("customer-canceled", {*PLACED, NO_POINTS})] == ["product", "coupon"]
