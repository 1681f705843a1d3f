"""What is ordered is always the same, and what must come of it adds up."""

from collections import Counter
from uuid import UUID

import pytest

from bench.wares import DISCOUNT, PLENTY, POINTS, Wares

WARES = Wares(2_000, products=100, users=1_000, refusals=True, prefix="x-")


def test_orders_are_the_same_each_time_and_all_over_the_shop() -> None:
    orders = [WARES.ordered(number) for number in range(WARES.orders)]

    assert orders == [WARES.ordered(number) for number in range(WARES.orders)]
    assert len({order.product for order in orders}) > 90
    assert len({order.user for order in orders}) > 900
    assert len({order.coupon for order in orders}) == WARES.orders


def test_one_in_five_is_refused_if_refusals_are_wanted() -> None:
    ends = Counter(WARES.ordered(number).end for number in range(WARES.orders))
    assert ends == {
        "confirmed": 1_600,
        "coupon-unknown": 200,
        "points-insufficient": 100,
        "product-out-of-stock": 100,
    }
    assert {Wares(100).ordered(number).end for number in range(100)} == {"confirmed"}


def test_everything_ordered_is_opened_before_except_what_is_to_be_refused() -> None:
    opened = [request.body for request in WARES.opening()]
    coupons = {body["coupon_id"] for body in opened if "coupon_id" in body}
    stock = {body["product_id"]: body["stock"] for body in opened if "stock" in body}
    for number in range(WARES.orders):
        order = WARES.ordered(number)
        assert (order.coupon in coupons) is (order.end != "coupon-unknown")
        assert stock[order.product] == (0 if order.end == "product-out-of-stock" else PLENTY)


@pytest.mark.parametrize("wares", [WARES, Wares(300, products=1)])
def test_totals_are_what_confirmed_orders_leave(wares: Wares) -> None:
    confirmed = [order for order in map(wares.ordered, range(wares.orders)) if order.end == "confirmed"]
    totals = list(wares.totals())

    def sum_of(field: str) -> int:
        return sum(total.value for total in totals if total.field == field)

    assert sum_of("available") == wares.products * PLENTY - sum(order.quantity for order in confirmed)
    assert sum_of("balance") == wares.users * PLENTY + POINTS - 1 - POINTS * len(confirmed)
    assert sum_of("order_id") == len(confirmed)
    assert DISCOUNT > 0


def test_without_coupons_no_order_has_one_and_none_is_issued() -> None:
    wares = Wares(200, users=1, coupons=False)

    assert {request.service for request in wares.opening()} == {"product", "point"}
    assert "coupon_id" not in wares.placing(3).body
    assert {wares.placing(number).user for number in range(200)} == {"u1"}
    assert {total.request.service for total in wares.totals()} == {"product", "point"}


def test_a_request_as_it_travels() -> None:
    head, _, body = WARES.placing(3).encode().partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /orders HTTP/1.1"
    assert b"X-User-Id: x-u22" in lines
    keys = [line.removeprefix(b"Idempotency-Key: ") for line in lines if line.startswith(b"Idempotency-Key: ")]
    assert [UUID(key.decode()).version for key in keys] == [7]
    assert b"Content-Length: %d" % len(body) in lines
    assert body == b'{"lines":[{"product_id":"x-p12","quantity":2}],"points":10,"coupon_id":"x-c3"}'
