"""The main flow and the three refusals: exact facts, exact balances."""

import pytest

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
    assert await shop.facts(order["order_id"]) == [
        "order.created.pending",
        "product.stock.held",
        "product.reserved",
        "point.used",
        "coupon.used",
        "order.confirmed",
    ]
    assert await shop.available("mug") == 8
    assert await shop.balance("ann") == 4_500
    assert await shop.coupon_used_by("ann-300") == order["order_id"]
