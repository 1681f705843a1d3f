"""The main flow and the refusals: exact facts in their order, exact balances."""

import pytest

from tests.saga.rush import CONFIRMED, COUPON_REFUSED, POINT_REFUSED, PRODUCT_REFUSED
from tests.shop import Shop

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_order_takes_stock_points_and_coupon(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("mug", price=10_000, stock=10)
    await shop.charge("ann", 5_000)
    await shop.issue("ann-300", "ann", discount=300)

    answer = await shop.place([("mug", 2)], user="ann", points=500, coupon="ann-300")

    assert answer.status_code == 200
    order = answer.json()
    assert order["status"] == "CONFIRMED"
    assert order["lines"] == [{"product_id": "mug", "quantity": 2, "unit_price": 10_000}]
    assert (order["total"], order["points"], order["discount"], order["amount_due"]) == (20_000, 500, 300, 19_200)
    await shop.until_quiet()
    assert await shop.facts(order["order_id"]) == list(CONFIRMED)
    assert await shop.facts(order["order_id"], ledgers=True) == [
        *CONFIRMED[:3],
        *("point.debited", "point.used", "coupon.held", "coupon.used"),
        *CONFIRMED[5:],
    ]
    assert await shop.available("mug") == 8
    assert await shop.balance("ann") == 4_500
    assert await shop.coupon_used_by("ann-300") == order["order_id"]


async def test_products_refuse_and_nothing_is_taken(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("lamp", stock=1)
    await shop.charge("bob", 5_000)
    await shop.issue("bob-300", "bob")

    answer = await shop.place([("lamp", 2)], user="bob", points=500, coupon="bob-300")

    assert refusal(answer.json()) == (409, "/problems/product-out-of-stock", "CANCELED")
    await shop.until_quiet()
    assert await shop.facts(answer.json()["order_id"]) == list(PRODUCT_REFUSED)
    assert (await shop.until_ended(answer.json()["order_id"], "bob"))["compensated"] is True
    assert (await shop.available("lamp"), await shop.balance("bob")) == (1, 5_000)
    assert await shop.coupon_used_by("bob-300") is None


async def test_points_refuse_and_the_stock_is_released(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("book", stock=5)
    await shop.charge("cat", 100)
    await shop.issue("cat-300", "cat")

    answer = await shop.place([("book", 2)], user="cat", points=500, coupon="cat-300")

    assert refusal(answer.json()) == (409, "/problems/points-insufficient", "CANCELED")
    view = await shop.until_ended(answer.json()["order_id"], "cat")
    assert (view["status"], view["reason"], view["compensated"]) == ("CANCELED", "points-insufficient", True)
    await shop.until_quiet()
    facts = await shop.facts(answer.json()["order_id"])
    # The refusal reaches products and orders at the same time: who answers first is open, what they say is not.
    assert facts[:4] == list(POINT_REFUSED[:4])
    assert sorted(facts[4:]) == sorted(POINT_REFUSED[4:])
    assert [fact for fact in facts if fact.startswith("product.")] == [
        fact for fact in POINT_REFUSED if fact.startswith("product.")
    ]
    assert (await shop.available("book"), await shop.balance("cat")) == (5, 100)
    assert await shop.coupon_used_by("cat-300") is None


async def test_the_coupon_refuses_and_points_and_stock_come_back(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("chair", stock=5)
    await shop.charge("dan", 1_000)
    await shop.issue("dan-old", "dan", expires_at="2020-01-01T00:00:00+09:00")

    answer = await shop.place([("chair", 2)], user="dan", points=500, coupon="dan-old")

    assert refusal(answer.json()) == (409, "/problems/coupon-expired", "CANCELED")
    view = await shop.until_ended(answer.json()["order_id"], "dan")
    assert (view["status"], view["reason"], view["compensated"]) == ("CANCELED", "coupon-expired", True)
    await shop.until_quiet()
    facts = await shop.facts(answer.json()["order_id"])
    assert facts[:5] == list(COUPON_REFUSED[:5])
    assert sorted(facts[5:]) == sorted(COUPON_REFUSED[5:])
    assert (await shop.available("chair"), await shop.balance("dan")) == (5, 1_000)
    assert await shop.coupon_used_by("dan-old") is None


async def test_an_order_whose_second_line_is_short_holds_nothing(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("pen", stock=10)
    await shop.register("ink", stock=1)

    answer = await shop.place([("pen", 3), ("ink", 2)], user="eve")

    assert refusal(answer.json()) == (409, "/problems/product-out-of-stock", "CANCELED")
    await shop.until_quiet()
    assert await shop.facts(answer.json()["order_id"]) == list(PRODUCT_REFUSED)
    assert (await shop.available("pen"), await shop.available("ink")) == (10, 1)


async def test_an_order_of_several_products_holds_every_line(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("cup", price=700, stock=10)
    await shop.register("tea", price=300, stock=10)

    answer = await shop.place([("cup", 3), ("tea", 2)], user="eve")

    assert (answer.status_code, answer.json()["amount_due"]) == (200, 2_700)
    await shop.until_quiet()
    facts = await shop.facts(answer.json()["order_id"])
    assert facts == [CONFIRMED[0], "product.stock.held", *CONFIRMED[1:]]
    assert (await shop.available("cup"), await shop.available("tea")) == (7, 8)


@pytest.mark.parametrize(
    ("points", "coupon", "reason"),
    [
        (0, "no-such-coupon", "coupon-unknown"),
        (0, "fay-used", "coupon-already-used"),
        (0, "gus-300", "coupon-not-yours"),
        (1_001, None, "points-exceed-total"),
    ],
)
async def test_other_refusals(points: int, coupon: str | None, reason: str, open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("sock", price=1_000, stock=50)
    await shop.charge("fay", 5_000)
    await shop.issue("fay-used", "fay")
    await shop.issue("gus-300", "gus")
    await shop.place([("sock", 1)], user="fay", coupon="fay-used", key="uses-it")
    before = await shop.available("sock")

    answer = await shop.place([("sock", 1)], user="fay", points=points, coupon=coupon)

    assert refusal(answer.json()) == (409, f"/problems/{reason}", "CANCELED")
    await shop.until_ended(answer.json()["order_id"], "fay")
    assert (await shop.available("sock"), await shop.balance("fay")) == (before, 5_000)


async def test_a_product_that_does_not_exist_is_refused(open_all_day: Shop) -> None:
    answer = await open_all_day.place([("nowhere", 1)], user="eve")
    assert refusal(answer.json()) == (409, "/problems/product-unknown", "CANCELED")


def refusal(problem: dict[str, object]) -> tuple[object, object, object]:
    return problem["status"], problem["type"], problem["order_status"]
