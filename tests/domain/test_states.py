"""What states say before and after each answer: `orders at` shows them to people, also what no decision reads."""

from typing import Any

import pytest
from msgspec import structs

import coupon_svc.domain
import order_svc.domain
import point_svc.domain
import product_svc.domain.product
import product_svc.domain.reservation
from contracts import Fact
from tests.domain.spec import state_after
from tests.examples import (
    ORDER_ID,
    PLAIN,
    charged,
    coupon_issued,
    coupon_restored,
    coupon_used,
    in_stock,
    points_refunded,
    points_used,
    product_registered,
    product_released,
    product_reserved,
    reserve_failed,
    reserve_voided,
    stock_added,
    stock_held,
    use_of_coupon_failed,
    use_of_coupon_voided,
    use_of_points_failed,
    use_of_points_voided,
)


def said(*facts: Fact) -> dict[str, Any]:
    return structs.asdict(state_after(*facts))


NOTHING: list[tuple[Any, dict[str, Any]]] = [
    (order_svc.domain.State, {"order": None, "deadline": None, "first_end": None, "reason": None}),
    (
        product_svc.domain.product.State,
        {"name": None, "price": 0, "first_stock": 0, "available": 0, "added": {}},
    ),
    (product_svc.domain.reservation.State, {"answer": None}),
    (point_svc.domain.State, {"balance": 0, "charges": {}, "used": {}, "closed": {}}),
    (
        coupon_svc.domain.State,
        {"user_id": None, "discount": 0, "expires_at": None, "order_id": None, "answers": {}},
    ),
]


@pytest.mark.parametrize(("state", "empty"), NOTHING, ids=lambda value: getattr(value, "__module__", ""))
def test_before_the_first_fact_there_is_nothing(state: Any, empty: dict[str, Any]) -> None:
    assert structs.asdict(state()) == empty


def test_an_order_that_was_never_accepted_has_no_status() -> None:
    assert order_svc.domain.State().status is None


def test_a_product_tells_its_first_stock_from_what_came_later() -> None:
    assert said(product_registered())["first_stock"] == 0
    assert said(*in_stock(10), stock_added(5, key="delivery-1"), stock_held(2)) == {
        "name": "Mug",
        "price": 10_000,
        "first_stock": 10,
        "available": 13,
        "added": {"delivery-1": 5},
    }


@pytest.mark.parametrize(
    ("facts", "answer"),
    [
        ([product_reserved()], "reserved"),
        ([product_reserved(), product_released()], "released"),
        ([reserve_failed("product-unknown")], "refused"),
        ([reserve_voided()], "voided"),
    ],
    ids=str,
)
def test_a_reservation_says_the_last_answer(facts: list[Fact], answer: str) -> None:
    assert said(*facts) == {"answer": answer}


@pytest.mark.parametrize(
    ("facts", "balance", "used", "closed"),
    [
        ([points_used()], 500, {ORDER_ID: 500}, {}),
        ([points_used(), points_refunded()], 1_000, {}, {ORDER_ID: "refunded"}),
        ([use_of_points_failed("points-insufficient")], 1_000, {}, {ORDER_ID: "refused"}),
        ([use_of_points_voided()], 1_000, {}, {ORDER_ID: "voided"}),
    ],
    ids=str,
)
def test_an_account_has_each_order_in_one_of_two_places(
    facts: list[Fact], balance: int, used: dict[str, int], closed: dict[str, str]
) -> None:
    state = said(charged(1_000), *facts)
    assert (state["balance"], state["used"], state["closed"]) == (balance, used, closed)
    assert state["charges"] == {"first": 1_000}


@pytest.mark.parametrize(
    ("facts", "order_id", "answer"),
    [
        ([coupon_used()], ORDER_ID, "used"),
        ([coupon_used(), coupon_restored()], None, "restored"),
        ([use_of_coupon_failed("coupon-expired")], None, "refused"),
        ([use_of_coupon_voided()], None, "voided"),
    ],
    ids=str,
)
def test_a_coupon_says_whose_order_has_it_and_each_last_answer(
    facts: list[Fact], order_id: str | None, answer: str
) -> None:
    state = said(coupon_issued(), *facts)
    assert (state["order_id"], state["answers"]) == (order_id, {ORDER_ID: answer})


def test_an_order_without_a_coupon_has_none() -> None:
    state = said(coupon_used(PLAIN))
    assert (state["order_id"], state["answers"]) == (None, {ORDER_ID: "used"})
