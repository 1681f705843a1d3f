"""A coupon is one order's at a time; an order that asked is answered once, with a coupon or without."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from contracts import CouponRefusal, Fact, Order, OrderCanceled, Reason
from coupon_svc.domain.coupon import Issue, IssuedDifferently
from coupon_svc.reactions import REACTIONS
from tests.domain.spec import given, heard_by, state_after
from tests.examples import (
    COUPON,
    CUSTOMER,
    DISCOUNT,
    EXPIRES_AT,
    INSTANT,
    NOW,
    ORDER,
    ORDER_ID,
    OTHER_ID,
    PLAIN,
    STRANGER,
    coupon_issued,
    coupon_restored,
    coupon_used,
    order_canceled,
    points_used,
    restoring,
    taking,
    use_of_coupon_failed,
    use_of_coupon_voided,
)

hears = heard_by(REACTIONS)

USED = (coupon_issued(), *taking())
RESTORED = (*USED, *restoring())
REFUSED = (coupon_issued(user_id=STRANGER), use_of_coupon_failed("coupon-not-yours"))
TAKEN = (coupon_issued(), *taking(order_id=OTHER_ID))
AFTER_EXPIRY = replace(ORDER, placed_at=EXPIRES_AT)
UNDOS: dict[str, OrderCanceled] = {
    "deadline": order_canceled("deadline-exceeded"),
    "customer": order_canceled("customer-canceled"),
}
REFUSALS: list[Reason] = ["product-unknown", "points-insufficient", "coupon-unknown", "coupon-not-yours"]
an_undo = pytest.mark.parametrize("undo", UNDOS.values(), ids=UNDOS)

ISSUE = Issue(COUPON, CUSTOMER, DISCOUNT, EXPIRES_AT, at=NOW)

# Issuing --------------------------------------------------------------------------------------------------------------


def test_a_coupon_is_issued() -> None:
    given().when(ISSUE).then(coupon_issued())


def test_a_coupon_that_has_expired_may_still_be_issued() -> None:
    past = NOW - timedelta(days=1)
    given().when(replace(ISSUE, expires_at=past)).then(coupon_issued(expires_at=past))


def test_a_coupon_issued_twice_with_the_same_content_is_issued_once() -> None:
    given(coupon_issued()).when(ISSUE).then_nothing()
    given(*USED).when(ISSUE).then_nothing()
    given().when(ISSUE, ISSUE).then(coupon_issued())


OTHER_CONTENTS = {
    "customer": replace(ISSUE, user_id=STRANGER),
    "discount": replace(ISSUE, discount=DISCOUNT + 1),
    "expiry": replace(ISSUE, expires_at=EXPIRES_AT + INSTANT),
}


@pytest.mark.parametrize("other", OTHER_CONTENTS.values(), ids=OTHER_CONTENTS)
def test_a_coupon_issued_again_with_other_content_is_an_error(other: Issue) -> None:
    given(coupon_issued()).when(other).then_raises(IssuedDifferently(COUPON))


def test_a_coupon_that_an_order_asked_for_too_early_can_still_be_issued() -> None:
    given(use_of_coupon_failed("coupon-unknown")).when(ISSUE).then(coupon_issued())
    given(use_of_coupon_voided()).when(ISSUE).then(coupon_issued())


# Using ----------------------------------------------------------------------------------------------------------------


def test_an_order_uses_its_coupon() -> None:
    given(coupon_issued()).when(hears(points_used())).then(*taking())


@pytest.mark.parametrize(("points", "discount"), [(19_699, 300), (19_700, 300), (19_701, 299), (20_000, 0)])
def test_the_discount_is_at_most_what_is_left_to_pay(points: int, discount: int) -> None:
    order = replace(ORDER, points=points)
    given(coupon_issued(300)).when(hears(points_used(order))).then(*taking(order, discount=discount))


def test_an_order_uses_its_coupon_once() -> None:
    given(*USED).when(hears(points_used())).then_nothing()
    given(coupon_issued()).when(hears(points_used()), hears(points_used())).then(*taking())


def test_an_order_accepted_just_before_the_expiry_may_use_the_coupon() -> None:
    order = replace(ORDER, placed_at=EXPIRES_AT - INSTANT)
    given(coupon_issued()).when(hears(points_used(order))).then(*taking(order))


def test_the_expiry_is_judged_when_the_order_was_accepted_not_when_it_arrives() -> None:
    order = replace(ORDER, placed_at=NOW - timedelta(days=2))
    expired_since = NOW - timedelta(days=1)
    given(coupon_issued(expires_at=expired_since)).when(hears(points_used(order))).then(*taking(order))


# An order without a coupon --------------------------------------------------------------------------------------------


def test_an_order_without_a_coupon_is_answered_on_a_stream_of_its_own() -> None:
    answer = coupon_used(PLAIN, discount=0)
    assert (answer.stream, answer.coupon_id, answer.discount) == (f"nocoupon-{ORDER_ID}", None, 0)
    given().when(hears(points_used(PLAIN))).then(answer)


def test_an_order_without_a_coupon_is_answered_once() -> None:
    given(coupon_used(PLAIN, discount=0)).when(hears(points_used(PLAIN))).then_nothing()
    given().when(hears(points_used(PLAIN)), hears(points_used(PLAIN))).then(coupon_used(PLAIN, discount=0))


@an_undo
def test_an_order_without_a_coupon_is_undone_and_fenced_like_any_other(undo: OrderCanceled) -> None:
    canceled, used = hears(replace(undo, order=PLAIN)), hears(points_used(PLAIN))
    given().when(used, canceled, canceled).then(coupon_used(PLAIN, discount=0), coupon_restored(PLAIN))
    given().when(canceled, used, canceled).then(use_of_coupon_voided(PLAIN))


# Refusing -------------------------------------------------------------------------------------------------------------

FAILURES: dict[CouponRefusal, tuple[tuple[Fact, ...], Order]] = {
    "coupon-unknown": ((), ORDER),
    "coupon-not-yours": ((coupon_issued(user_id=STRANGER),), ORDER),
    "coupon-already-used": (TAKEN, ORDER),
    "coupon-expired": ((coupon_issued(),), AFTER_EXPIRY),
}
a_failure = pytest.mark.parametrize("reason", FAILURES)


@a_failure
def test_a_coupon_that_cannot_be_used_is_refused_with_the_reason(reason: CouponRefusal) -> None:
    facts, order = FAILURES[reason]
    given(*facts).when(hears(points_used(order))).then(use_of_coupon_failed(reason, order))


@a_failure
def test_an_order_refused_twice_is_refused_once(reason: CouponRefusal) -> None:
    facts, order = FAILURES[reason]
    refused = use_of_coupon_failed(reason, order)
    given(*facts, refused).when(hears(points_used(order))).then_nothing()
    given(*facts).when(hears(points_used(order)), hears(points_used(order))).then(refused)


def test_an_order_accepted_after_the_expiry_is_refused() -> None:
    late = replace(ORDER, placed_at=EXPIRES_AT + INSTANT)
    given(coupon_issued()).when(hears(points_used(late))).then(use_of_coupon_failed("coupon-expired", late))


def test_nobody_learns_anything_about_somebody_elses_coupon() -> None:
    used_by_owner = taking(replace(ORDER, user_id=STRANGER), order_id=OTHER_ID)
    given(coupon_issued(user_id=STRANGER), *used_by_owner).when(hears(points_used(AFTER_EXPIRY))).then(
        use_of_coupon_failed("coupon-not-yours", AFTER_EXPIRY)
    )


def test_a_coupon_that_is_used_and_expired_is_used() -> None:
    given(*TAKEN).when(hears(points_used(AFTER_EXPIRY))).then(use_of_coupon_failed("coupon-already-used", AFTER_EXPIRY))


def test_a_refused_order_stays_refused_though_the_coupon_is_free_again() -> None:
    refused = (*TAKEN, use_of_coupon_failed("coupon-already-used"), *restoring(order_id=OTHER_ID))
    given(*refused).when(hears(points_used())).then_nothing()


def test_two_orders_of_one_batch_do_not_share_a_coupon() -> None:
    given(coupon_issued()).when(hears(points_used()), hears(points_used(order_id=OTHER_ID))).then(
        *taking(), use_of_coupon_failed("coupon-already-used", order_id=OTHER_ID)
    )


# Restoring ------------------------------------------------------------------------------------------------------------


@an_undo
def test_the_coupon_an_order_uses_is_restored(undo: OrderCanceled) -> None:
    given(*USED).when(hears(undo)).then(*restoring())


@an_undo
def test_the_coupon_an_order_used_is_restored_once(undo: OrderCanceled) -> None:
    given(*RESTORED).when(*(hears(other) for other in UNDOS.values())).then_nothing()
    given(*USED).when(hears(undo), hears(undo)).then(*restoring())


@an_undo
def test_an_order_that_was_refused_has_nothing_to_restore(undo: OrderCanceled) -> None:
    given(*REFUSED).when(hears(undo)).then_nothing()


def test_an_order_that_was_refused_does_not_restore_the_coupon_of_the_order_that_has_it() -> None:
    refused = (*TAKEN, use_of_coupon_failed("coupon-already-used"))
    given(*refused).when(hears(order_canceled("customer-canceled"))).then_nothing()


def test_a_restored_order_does_not_use_the_coupon_again() -> None:
    given(*RESTORED).when(hears(points_used())).then_nothing()


def test_a_restored_coupon_can_be_used_by_another_order() -> None:
    given(*RESTORED).when(hears(points_used(order_id=OTHER_ID))).then(*taking(order_id=OTHER_ID))


def test_an_order_canceled_long_ago_does_not_take_the_coupon_from_the_next() -> None:
    next_one = (*RESTORED, *taking(order_id=OTHER_ID))
    given(*next_one).when(hears(order_canceled("customer-canceled"))).then_nothing()
    assert state_after(*next_one).order_id == OTHER_ID


# The undo came first --------------------------------------------------------------------------------------------------


@an_undo
def test_an_undo_that_comes_first_fences_the_order(undo: OrderCanceled) -> None:
    given(coupon_issued()).when(hears(undo)).then(use_of_coupon_voided())
    given().when(hears(undo)).then(use_of_coupon_voided())


@an_undo
def test_a_fenced_order_does_not_use_the_coupon_when_it_comes(undo: OrderCanceled) -> None:
    given(coupon_issued(), use_of_coupon_voided()).when(hears(points_used())).then_nothing()
    given(coupon_issued()).when(hears(undo), hears(points_used())).then(use_of_coupon_voided())


@an_undo
def test_an_order_is_fenced_once(undo: OrderCanceled) -> None:
    given(coupon_issued(), use_of_coupon_voided()).when(hears(undo)).then_nothing()
    given(coupon_issued()).when(hears(undo), hears(undo)).then(use_of_coupon_voided())


def test_a_fence_leaves_the_coupon_to_others() -> None:
    given(coupon_issued(), use_of_coupon_voided()).when(hears(points_used(order_id=OTHER_ID))).then(
        *taking(order_id=OTHER_ID)
    )
    assert state_after(*TAKEN, use_of_coupon_voided()).order_id == OTHER_ID


# A cancel that a refusal caused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("canceled", [order_canceled(reason) for reason in REFUSALS], ids=REFUSALS)
def test_a_cancel_caused_by_a_refusal_changes_nothing(canceled: OrderCanceled) -> None:
    given(coupon_issued()).when(hears(canceled)).then_nothing()
    given(*USED).when(hears(canceled)).then_nothing()
    given(*REFUSED).when(hears(canceled)).then_nothing()
    given(*RESTORED).when(hears(canceled)).then_nothing()
