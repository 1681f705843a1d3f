"""What states say before and after each answer: `orders at` shows them to people, also what no decision reads."""

from typing import Any

import pytest
from msgspec import structs

import order_svc.domain
from contracts import Fact
from coupon_svc.domain import coupon
from coupon_svc.domain import use as coupon_use
from point_svc.domain import account, charge
from point_svc.domain import use as point_use
from product_svc.domain import addition, product, reservation
from tests.domain.spec import state_after
from tests.examples import (
    ORDER_ID,
    PLAIN,
    adding,
    charged,
    charging,
    coupon_issued,
    coupon_restored,
    coupon_used,
    in_stock,
    points_refunded,
    points_used,
    product_registered,
    product_released,
    product_reserved,
    refunding,
    reserve_failed,
    reserve_voided,
    restoring,
    stock_added,
    stock_held,
    taking,
    use_of_coupon_failed,
    use_of_coupon_voided,
    use_of_points_failed,
    use_of_points_voided,
    using,
)


def said(*facts: Fact) -> dict[str, Any]:
    return structs.asdict(state_after(*facts))


NOTHING: list[tuple[Any, dict[str, Any]]] = [
    (order_svc.domain.State, {"order": None, "deadline": None, "first_end": None, "reason": None}),
    (product.State, {"name": None, "price": 0, "first_stock": 0, "available": 0, "added": 0}),
    (addition.State, {"quantity": None}),
    (reservation.State, {"answer": None}),
    (account.State, {"balance": 0, "charged": 0}),
    (charge.State, {"amount": None}),
    (point_use.State, {"answer": None, "points": 0}),
    (coupon.State, {"user_id": None, "discount": 0, "expires_at": None, "order_id": None}),
    (coupon_use.State, {"answer": None}),
]


@pytest.mark.parametrize(("state", "empty"), NOTHING, ids=lambda value: getattr(value, "__module__", ""))
def test_before_the_first_fact_there_is_nothing(state: Any, empty: dict[str, Any]) -> None:
    assert structs.asdict(state()) == empty


def test_an_order_that_was_never_accepted_has_no_status() -> None:
    assert order_svc.domain.State().status is None


def test_a_product_tells_its_first_stock_from_what_came_later() -> None:
    assert said(product_registered())["first_stock"] == 0
    assert said(*in_stock(10), *adding(5, key="delivery-1"), stock_held(2)) == {
        "name": "Mug",
        "price": 10_000,
        "first_stock": 10,
        "available": 13,
        "added": 5,
    }


def test_an_addition_says_how_much_came_in_with_its_key() -> None:
    assert said(stock_added(5, key="delivery-1")) == {"quantity": 5}


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


def test_an_account_has_its_balance_and_what_was_charged_together() -> None:
    assert said(*charging(1_000), *using()) == {"balance": 500, "charged": 1_000}
    assert said(*charging(1_000), *using(), *refunding(), *charging(1, "second")) == {
        "balance": 1_001,
        "charged": 1_001,
    }


def test_a_charge_says_how_much_came_in_with_its_key() -> None:
    assert said(charged(1_000)) == {"amount": 1_000}


@pytest.mark.parametrize(
    ("facts", "answer"),
    [
        ([points_used()], "used"),
        ([points_used(), points_refunded()], "refunded"),
        ([use_of_points_failed("points-insufficient")], "refused"),
        ([use_of_points_voided()], "voided"),
    ],
    ids=str,
)
def test_a_use_of_points_says_the_last_answer(facts: list[Fact], answer: str) -> None:
    assert said(*facts) == {"answer": answer, "points": 500 if points_used() in facts else 0}


@pytest.mark.parametrize(
    ("facts", "answer"),
    [
        ([coupon_used()], "used"),
        ([coupon_used(), coupon_restored()], "restored"),
        ([use_of_coupon_failed("coupon-expired")], "refused"),
        ([use_of_coupon_voided()], "voided"),
    ],
    ids=str,
)
def test_a_use_of_a_coupon_says_the_last_answer(facts: list[Fact], answer: str) -> None:
    assert said(*facts) == {"answer": answer}


def test_a_coupon_says_whose_order_has_it() -> None:
    assert said(coupon_issued(), *taking())["order_id"] == ORDER_ID
    assert said(coupon_issued(), *taking(), *restoring())["order_id"] is None


def test_an_order_without_a_coupon_has_none() -> None:
    assert said(coupon_used(PLAIN)) == {"answer": "used"}
