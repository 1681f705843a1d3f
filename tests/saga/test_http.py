"""POST /orders and what a customer asks about an order afterwards."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.saga.asking import problem, records, settled
from tests.shop import JSON, Shop

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """A shop that waits a millisecond for an order's end, and whose points service is not running."""
    folder: Path = tmp_path_factory.mktemp("hasty")
    shop = Shop(folder, ORDER_WAIT_S="0.001")
    try:
        await shop.start_nats()
        await shop.start("order", "product", "coupon")
        yield shop
    finally:
        await shop.close()


async def placed(shop: Shop, customer: str, **order: Any) -> httpx.Response:
    """A customer of the test's own places an order for one `<customer>-mug` of 1,000 won."""
    await shop.register(f"{customer}-mug", price=1_000, stock=100)
    return await shop.place([(f"{customer}-mug", 1)], user=customer, **order)


# Placing --------------------------------------------------------------------------------------------------------------


async def test_a_confirmed_order_is_shown_with_its_amounts(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.charge("ada", 500)
    await shop.issue("ada-1", "ada", discount=200)

    answer = await placed(shop, "ada", points=300, coupon="ada-1")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    order = answer.json()
    assert {name: order[name] for name in order if name not in ("order_id", "placed_at", "deadline")} == {
        "status": "CONFIRMED",
        "reason": None,
        "lines": [{"product_id": "ada-mug", "quantity": 1, "unit_price": 1_000}],
        "total": 1_000,
        "points": 300,
        "coupon_id": "ada-1",
        "discount": 200,
        "amount_due": 500,
    }


async def test_points_and_coupon_may_be_left_out(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("plain-mug", price=700)

    answer = await shop.post("order", "/orders", {"lines": [{"product_id": "plain-mug", "quantity": 2}]}, user="bea")

    assert answer.status_code == 200
    order = answer.json()
    assert (order["points"], order["coupon_id"], order["discount"], order["amount_due"]) == (0, None, 0, 1_400)


async def test_a_coupon_takes_off_no_more_than_is_left_to_pay(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.charge("cleo", 600)
    await shop.issue("cleo-1", "cleo", discount=10**9)

    order = (await placed(shop, "cleo", points=600, coupon="cleo-1")).json()

    assert (order["total"], order["points"], order["discount"], order["amount_due"]) == (1_000, 600, 400, 0)


async def test_an_order_without_a_key_gets_one_that_works(open_all_day: Shop) -> None:
    first = await placed(open_all_day, "dora")

    again = await placed(open_all_day, "dora", key=first.headers["Idempotency-Key"])

    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()


async def test_orders_without_a_key_are_orders_of_their_own(open_all_day: Shop) -> None:
    answers = [await placed(open_all_day, "edna") for _ in range(3)]

    assert len({answer.json()["order_id"] for answer in answers}) == 3
    assert await open_all_day.available("edna-mug") == 97


async def test_a_refused_order_is_a_problem_that_names_the_reason_and_the_order(open_all_day: Shop) -> None:
    answer = await placed(open_all_day, "fern", points=500)

    refused = problem(answer, 409, "points-insufficient")
    assert refused["order_status"] == "CANCELED"
    assert (await open_all_day.order(refused["order_id"], "fern"))["reason"] == "points-insufficient"


# The same key again ---------------------------------------------------------------------------------------------------


async def test_the_same_key_and_order_get_the_first_answer_again(open_all_day: Shop) -> None:
    first = await placed(open_all_day, "gina", key="k1")
    before = await settled(open_all_day)

    again = await placed(open_all_day, "gina", key="k1")

    assert (again.status_code, again.json()) == (200, first.json())
    assert (first.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")
    assert first.headers["Idempotency-Key"] == again.headers["Idempotency-Key"] == "k1"
    assert records(open_all_day) == before


async def test_a_refusal_is_repeated_like_any_answer(open_all_day: Shop) -> None:
    first = await placed(open_all_day, "hedy", points=500, key="k1")
    await open_all_day.charge("hedy", 10_000)

    again = await placed(open_all_day, "hedy", points=500, key="k1")

    assert problem(again, 409, "points-insufficient") == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_the_same_order_in_other_words_is_the_same_order(open_all_day: Shop) -> None:
    shop = open_all_day
    first = await placed(shop, "iris", key="k1")
    words = b'{"coupon_id" : null, "lines":[ {"quantity":1,"product_id":"iris-mug"} ]}'

    again = await shop.http.post(
        shop.url("order", "/orders"), content=words, headers=JSON | {"X-User-Id": "iris", "Idempotency-Key": "k1"}
    )

    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("change", [{"points": 1}, {"coupon": "c9"}, {"quantity": 2}, {"product": "lamp"}], ids=str)
async def test_the_same_key_for_another_order_is_refused(open_all_day: Shop, change: dict[str, Any]) -> None:
    shop = open_all_day
    await placed(shop, "jane", key="k1")
    before = await settled(shop)
    product, quantity = change.get("product", "jane-mug"), change.get("quantity", 1)

    answer = await shop.place(
        [(product, quantity)], user="jane", points=change.get("points", 0), coupon=change.get("coupon"), key="k1"
    )

    problem(answer, 422, "idempotency-key-reused")
    assert records(shop) == before


async def test_two_customers_may_use_the_same_key(open_all_day: Shop) -> None:
    await open_all_day.register("shared-mug")

    answers = [await open_all_day.place([("shared-mug", 1)], user=user, key="k1") for user in ("kate", "lena")]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert len({answer.json()["order_id"] for answer in answers}) == 2
    assert all("Idempotent-Replayed" not in answer.headers for answer in answers)


async def test_a_storm_of_identical_requests_makes_one_order(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("storm-mug", stock=100)
    await shop.charge("mona", 10_000)

    answers = await asyncio.gather(
        *(shop.place([("storm-mug", 1)], user="mona", points=100, key="storm") for _ in range(50))
    )

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers].count(None) == 1
    assert (await shop.available("storm-mug"), await shop.balance("mona")) == (99, 9_900)
    assert (await shop.facts(answers[0].json()["order_id"])).count("order.created.pending") == 1


async def test_of_different_orders_under_one_key_at_once_one_is_placed(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("race-mug", stock=100)

    answers = await asyncio.gather(
        *(shop.place([("race-mug", quantity)], user="nora", key="race") for quantity in range(1, 11))
    )

    assert sorted(answer.status_code for answer in answers) == [200] + [422] * 9
    (winner,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert await shop.available("race-mug") == 100 - winner["lines"][0]["quantity"]


# While it is pending --------------------------------------------------------------------------------------------------


async def test_an_order_that_has_not_ended_is_answered_with_where_to_look(hasty: Shop) -> None:
    answer = await placed(hasty, "olga", key="k1")

    assert answer.status_code == 202
    order = answer.json()
    assert answer.headers["Location"] == f"/orders/{order['order_id']}"
    assert (order["status"], order["total"], order["amount_due"]) == ("PENDING", None, None)
    assert order["lines"] == [{"product_id": "olga-mug", "quantity": 1}]
    looked = await hasty.get("order", answer.headers["Location"], user="olga")
    assert (looked.status_code, looked.json()["status"], looked.json()["compensated"]) == (200, "PENDING", None)


async def test_a_pending_order_under_the_same_key_is_the_same_pending_order(hasty: Shop) -> None:
    first = await placed(hasty, "pola", key="k1")

    again = await placed(hasty, "pola", key="k1")

    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]


# Asking about it ------------------------------------------------------------------------------------------------------


async def test_an_order_shows_its_steps_with_their_services_and_times(open_all_day: Shop) -> None:
    order_id = (await placed(open_all_day, "rosa")).json()["order_id"]
    await open_all_day.until_quiet()

    view = await open_all_day.order(order_id, "rosa")

    assert (view["status"], view["compensated"], view["unavailable"]) == ("CONFIRMED", None, None)
    assert [(step["service"], step["fact"]) for step in view["steps"]] == [
        ("order", "order.created.pending"),
        ("product", "product.reserved"),
        ("point", "point.used"),
        ("coupon", "coupon.used"),
        ("order", "order.confirmed"),
    ]
    times = [step["at"] for step in view["steps"]]
    assert times == sorted(times)


@pytest.mark.parametrize(("method", "path"), [("GET", "/orders/{}"), ("POST", "/orders/{}/cancel")])
async def test_someone_elses_order_is_as_unknown_as_none(open_all_day: Shop, method: str, path: str) -> None:
    order_id = (await placed(open_all_day, "sara", key="k1")).json()["order_id"]
    before = await settled(open_all_day)

    others, none = [
        await open_all_day.http.request(
            method, open_all_day.url("order", path.format(which)), headers={"X-User-Id": "tess"}
        )
        for which in (order_id, "0" * 32)
    ]

    assert problem(others, 404, "order-not-found") == problem(none, 404, "order-not-found")
    assert records(open_all_day) == before
    assert (await open_all_day.order(order_id, "sara"))["status"] == "CONFIRMED"
