"""A reservation holds every line of an order or none, gives all of it back once, or sees that it is never made."""

import pytest
from msgspec.structs import replace

from contracts import Line, Order, OrderCanceled, ProductRefusal, Reason, SagaFact
from product_svc.reactions import REACTIONS
from tests.domain.spec import given, heard_by
from tests.examples import (
    MUG,
    MUGS_AND_TEA,
    ORDER,
    OTHER_ID,
    TEA,
    in_stock,
    order_canceled,
    order_created,
    product_registered,
    product_released,
    product_reserved,
    reserve_failed,
    reserve_voided,
    stock_added,
    stock_held,
    stock_returned,
    use_of_coupon_failed,
    use_of_points_failed,
)

hears = heard_by(REACTIONS)

RESERVED = (*in_stock(10), stock_held(2), product_reserved())
RELEASED = (*RESERVED, stock_returned(2), product_released())
UNDOS: dict[str, SagaFact] = {
    "points refused": use_of_points_failed("points-insufficient"),
    "coupon refused": use_of_coupon_failed("coupon-expired"),
    "deadline": order_canceled("deadline-exceeded"),
    "customer": order_canceled("customer-canceled"),
}
REFUSALS: list[Reason] = ["product-unknown", "product-out-of-stock", "points-insufficient", "coupon-expired"]
an_undo = pytest.mark.parametrize("undo", UNDOS.values(), ids=UNDOS)

# Holding --------------------------------------------------------------------------------------------------------------


def test_an_order_holds_its_line() -> None:
    given(*in_stock(10)).when(hears(order_created())).then(stock_held(2), product_reserved())


def test_an_order_holds_every_line_and_carries_prices_and_total() -> None:
    reserved = product_reserved(MUGS_AND_TEA)
    assert (reserved.unit_prices, reserved.total) == ((10_000, 3_000), 29_000)
    given(*in_stock(10), *in_stock(10, TEA)).when(hears(order_created(MUGS_AND_TEA))).then(
        stock_held(2, MUG), stock_held(3, TEA), reserved
    )


def test_an_order_may_take_the_last_piece() -> None:
    given(*in_stock(2)).when(hears(order_created())).then(stock_held(2), product_reserved())


def test_an_order_reserved_twice_holds_once() -> None:
    given(*RESERVED).when(hears(order_created())).then_nothing()
    given(*in_stock(10)).when(hears(order_created()), hears(order_created())).then(stock_held(2), product_reserved())


# Refusing -------------------------------------------------------------------------------------------------------------


def test_an_order_of_more_than_there_is_is_refused() -> None:
    given(*in_stock(1)).when(hears(order_created())).then(reserve_failed("product-out-of-stock"))


def test_a_product_without_any_stock_is_out_of_stock_not_unknown() -> None:
    given(product_registered()).when(hears(order_created())).then(reserve_failed("product-out-of-stock"))


def test_an_order_of_an_unknown_product_is_refused() -> None:
    given().when(hears(order_created())).then(reserve_failed("product-unknown"))


def test_what_other_orders_hold_is_not_there() -> None:
    held = (*in_stock(3), stock_held(2, order_id=OTHER_ID), product_reserved(order_id=OTHER_ID))
    given(*held).when(hears(order_created())).then(reserve_failed("product-out-of-stock"))


@pytest.mark.parametrize("known", [True, False])
def test_an_order_whose_second_line_fails_holds_nothing(known: bool) -> None:
    tea = in_stock(2, TEA) if known else ()
    reason: ProductRefusal = "product-out-of-stock" if known else "product-unknown"
    given(*in_stock(10), *tea).when(hears(order_created(MUGS_AND_TEA))).then(reserve_failed(reason, TEA, MUGS_AND_TEA))


def test_the_first_failing_line_names_the_reason() -> None:
    mugs_first, tea_first = MUGS_AND_TEA, replace(MUGS_AND_TEA, lines=MUGS_AND_TEA.lines[::-1])
    few_mugs_no_tea = in_stock(1)
    given(*few_mugs_no_tea).when(hears(order_created(mugs_first))).then(
        reserve_failed("product-out-of-stock", MUG, mugs_first)
    )
    given(*few_mugs_no_tea).when(hears(order_created(tea_first))).then(
        reserve_failed("product-unknown", TEA, tea_first)
    )


def test_an_order_refused_twice_is_refused_once() -> None:
    given(*in_stock(1), reserve_failed("product-out-of-stock")).when(hears(order_created())).then_nothing()
    given().when(hears(order_created()), hears(order_created())).then(reserve_failed("product-unknown"))


def test_a_refused_order_stays_refused_though_stock_has_come_since() -> None:
    refused = (*in_stock(1), reserve_failed("product-out-of-stock"), stock_added(10, key="delivery-1"))
    given(*refused).when(hears(order_created())).then_nothing()


def test_two_orders_of_one_batch_do_not_share_the_last_piece() -> None:
    given(*in_stock(3)).when(hears(order_created()), hears(order_created(order_id=OTHER_ID))).then(
        stock_held(2), product_reserved(), reserve_failed("product-out-of-stock", order_id=OTHER_ID)
    )


def test_an_order_refused_for_one_line_leaves_the_other_to_the_next() -> None:
    given(*in_stock(2)).when(hears(order_created(MUGS_AND_TEA)), hears(order_created(order_id=OTHER_ID))).then(
        reserve_failed("product-unknown", TEA, MUGS_AND_TEA),
        stock_held(2, order_id=OTHER_ID),
        product_reserved(order_id=OTHER_ID),
    )


# Giving back ----------------------------------------------------------------------------------------------------------


@an_undo
def test_what_an_order_holds_is_given_back(undo: SagaFact) -> None:
    given(*RESERVED).when(hears(undo)).then(stock_returned(2), product_released())


def test_every_line_is_given_back() -> None:
    held = (*in_stock(10), *in_stock(10, TEA), stock_held(2), stock_held(3, TEA), product_reserved(MUGS_AND_TEA))
    given(*held).when(hears(order_canceled("customer-canceled", MUGS_AND_TEA))).then(
        stock_returned(2, MUG), stock_returned(3, TEA), product_released(MUGS_AND_TEA)
    )


@an_undo
def test_what_an_order_held_is_given_back_once(undo: SagaFact) -> None:
    given(*RELEASED).when(*(hears(other) for other in UNDOS.values())).then_nothing()
    given(*RESERVED).when(hears(undo), hears(undo)).then(stock_returned(2), product_released())


@an_undo
def test_an_order_that_was_refused_has_nothing_to_give_back(undo: SagaFact) -> None:
    given(*in_stock(1), reserve_failed("product-out-of-stock")).when(hears(undo)).then_nothing()


def test_a_released_order_is_not_reserved_again() -> None:
    given(*RELEASED).when(hears(order_created())).then_nothing()


def test_what_was_given_back_can_be_held_by_another_order() -> None:
    released = (*in_stock(2), stock_held(2), product_reserved(), stock_returned(2), product_released())
    given(*released).when(hears(order_created(order_id=OTHER_ID))).then(
        stock_held(2, order_id=OTHER_ID), product_reserved(order_id=OTHER_ID)
    )


# The undo came first --------------------------------------------------------------------------------------------------


@an_undo
def test_an_undo_that_comes_first_fences_the_order(undo: SagaFact) -> None:
    given(*in_stock(10)).when(hears(undo)).then(reserve_voided())


@an_undo
def test_a_fenced_order_holds_nothing_when_it_comes(undo: SagaFact) -> None:
    given(*in_stock(10), reserve_voided()).when(hears(order_created())).then_nothing()
    given(*in_stock(10)).when(hears(undo), hears(order_created())).then(reserve_voided())


@an_undo
def test_an_order_is_fenced_once(undo: SagaFact) -> None:
    given(*in_stock(10), reserve_voided()).when(hears(undo)).then_nothing()
    given(*in_stock(10)).when(hears(undo), hears(undo)).then(reserve_voided())


def test_an_order_of_unknown_products_is_fenced_as_well() -> None:
    unknown: Order = replace(ORDER, lines=(Line("no-such-thing", 1),))
    given().when(hears(order_canceled("deadline-exceeded", unknown))).then(reserve_voided(unknown))


# A cancel that a refusal caused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("canceled", [order_canceled(reason) for reason in REFUSALS], ids=REFUSALS)
def test_a_cancel_caused_by_a_refusal_changes_nothing(canceled: OrderCanceled) -> None:
    given(*in_stock(10)).when(hears(canceled)).then_nothing()
    given(*RESERVED).when(hears(canceled)).then_nothing()
    given(*in_stock(1), reserve_failed("product-out-of-stock")).when(hears(canceled)).then_nothing()
    given(*RELEASED).when(hears(canceled)).then_nothing()
