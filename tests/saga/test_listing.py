"""Lists of orders over HTTP: a customer's own, newest first, and for operators everybody's, oldest first."""

from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.saga.asking import problem, records, settled
from tests.shop import Shop, attempts, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

Page = dict[str, Any]


async def listed(shop: Shop, user: str, **parameters: object) -> Page:
    return await _page(await shop.get("order", f"/orders?{_query(parameters)}", user=user))


async def listed_for_operators(shop: Shop, **parameters: object) -> Page:
    return await _page(await shop.get("order", f"/ops/orders?{_query(parameters)}"))


def _query(parameters: dict[str, object]) -> str:
    return "&".join(f"{name}={quote(str(value))}" for name, value in parameters.items())


async def _page(answer: httpx.Response) -> Page:
    assert answer.status_code == 200, answer.text
    page: Page = answer.json()
    return page


def ids(page: Page) -> list[str]:
    return [order["order_id"] for order in page["orders"]]


async def place(shop: Shop, user: str, count: int = 1, product: str = "plenty", **otherwise: Any) -> list[str]:
    """The ids of that many orders, placed one after another."""
    placed = []
    for _ in range(count):
        answer = await shop.place([(product, 1)], user=user, **otherwise)
        assert answer.status_code in (200, 202, 409), answer.text
        placed.append(str(answer.json()["order_id"]))
    return placed


# A customer's own -----------------------------------------------------------------------------------------------------


async def test_nobody_has_no_orders(open_all_day: Shop) -> None:
    assert await listed(open_all_day, "nobody") == {"orders": [], "next": None}


async def test_a_listed_order_is_what_the_order_itself_says(open_all_day: Shop) -> None:
    await open_all_day.register("rich", price=5_000)
    await open_all_day.register("tea", price=700)
    await open_all_day.charge("ann", 1_000)
    await open_all_day.issue("ann-1", "ann", discount=300)
    lines = [("rich", 2), ("tea", 3)]
    await open_all_day.place(lines, user="ann", points=400, coupon="ann-1")
    await open_all_day.place(lines, user="ann", points=5_000)
    await open_all_day.place([("no-such-product", 1)], user="ann")
    canceled = (await open_all_day.place(lines, user="ann")).json()["order_id"]
    await open_all_day.post("order", f"/orders/{canceled}/cancel", user="ann")

    page = await listed(open_all_day, "ann")

    assert [(order["status"], order["reason"]) for order in page["orders"]] == [
        ("CANCELED", "customer-canceled"),
        ("CANCELED", "product-unknown"),
        ("CANCELED", "points-insufficient"),
        ("CONFIRMED", None),
    ]
    for order in page["orders"]:
        shown = await open_all_day.order(order["order_id"], "ann")
        ends = [step["at"] for step in shown["steps"] if step["fact"] in ("order.confirmed", "order.canceled")]
        assert order.pop("ended_at") == max(ends)
        assert order == {name: shown[name] for name in order}
    assert page["orders"][3] | {"order_id": None, "placed_at": None} == {
        "order_id": None,
        "status": "CONFIRMED",
        "reason": None,
        "lines": [
            {"product_id": "rich", "quantity": 2, "unit_price": 5_000},
            {"product_id": "tea", "quantity": 3, "unit_price": 700},
        ],
        "total": 12_100,
        "points": 400,
        "coupon_id": "ann-1",
        "discount": 300,
        "amount_due": 11_400,
        "placed_at": None,
    }


async def test_pages_have_every_order_once_newest_first_whatever_is_placed_meanwhile(open_all_day: Shop) -> None:
    await open_all_day.register("plenty", stock=1_000)
    before = await place(open_all_day, "bob", 11)
    meanwhile = []

    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await listed(open_all_day, "bob", limit=3, cursor=cursor)
        assert len(page["orders"]) <= 3
        found += ids(page)
        cursor = page["next"]
        meanwhile += await place(open_all_day, "bob", 2)
        await place(open_all_day, "not-bob")

    assert found == before[::-1]
    assert ids(await listed(open_all_day, "bob", limit=200)) == [*meanwhile[::-1], *before[::-1]]


async def test_a_page_ends_exactly_where_the_orders_do(open_all_day: Shop) -> None:
    await open_all_day.register("plenty", stock=1_000)
    placed = await place(open_all_day, "cat", 4)

    first = await listed(open_all_day, "cat", limit=2)
    second = await listed(open_all_day, "cat", limit=2, cursor=first["next"])

    assert (ids(first), ids(second), second["next"]) == (placed[:1:-1], placed[1::-1], None)


async def test_a_page_has_fifty_orders_unless_it_is_told_otherwise(open_all_day: Shop) -> None:
    await open_all_day.register("plenty", stock=1_000)
    placed = await place(open_all_day, "dan", 51)

    page = await listed(open_all_day, "dan")

    assert ids(page) == placed[:0:-1]
    assert ids(await listed(open_all_day, "dan", cursor=page["next"])) == placed[:1]


async def test_orders_are_listed_by_status(open_all_day: Shop) -> None:
    await open_all_day.register("plenty", stock=1_000)
    confirmed = await place(open_all_day, "eve", 3)
    refused = await place(open_all_day, "eve", 2, product="no-such-product")

    first = await listed(open_all_day, "eve", status="CONFIRMED", limit=2)
    second = await listed(open_all_day, "eve", status="CONFIRMED", limit=2, cursor=first["next"])

    assert ids(first) + ids(second) == confirmed[::-1]
    assert ids(await listed(open_all_day, "eve", status="CANCELED")) == refused[::-1]
    assert ids(await listed(open_all_day, "eve", status="PENDING")) == []


async def test_nobody_sees_another_customers_orders(open_all_day: Shop) -> None:
    await open_all_day.register("plenty", stock=1_000)
    fays = await place(open_all_day, "fay", 3)
    gus = await place(open_all_day, "gus")
    cursor = (await listed(open_all_day, "fay", limit=1))["next"]

    assert ids(await listed(open_all_day, "gus")) == gus
    assert set(fays) & set(ids(await listed(open_all_day, "gus", cursor=cursor))) == set()


async def test_whoever_was_answered_finds_it_in_the_list(open_all_day: Shop) -> None:
    await open_all_day.register("plenty", stock=1_000)
    for _ in range(10):
        (order_id,) = await place(open_all_day, "hal")
        (order,) = (await listed(open_all_day, "hal", limit=1))["orders"]
        assert (order["order_id"], order["status"]) == (order_id, "CONFIRMED")

        await open_all_day.post("order", f"/orders/{order_id}/cancel", user="hal")
        (order,) = (await listed(open_all_day, "hal", limit=1))["orders"]
        assert (order["order_id"], order["status"], order["amount_due"]) == (order_id, "CANCELED", 1_000)


# What cannot be meant -------------------------------------------------------------------------------------------------


def encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


BAD_CURSORS = {
    "words": "the next page please",
    "an id": "2e86ac2065f70ff4b21b2634a80468d3",
    "one letter": "a",
    "padded": urlsafe_b64encode(b"1700000000000000.o1").decode() + "=",
    "no place": encoded("1700000000000000"),
    "no instant": encoded(".o1"),
    "an instant beyond integers": encoded("9" * 19 + ".o1"),
    "a negative instant": encoded("-1.o1"),
    "digits of another script": encoded("١.o1"),
    "no order": encoded("1700000000000000."),
    "a bad order": encoded("1700000000000000.o 1"),
    "an order with a trailing newline": encoded("1700000000000000.o1\n"),
    "an order too long": encoded("1700000000000000." + "o" * 65),
    "something quite long": "A" * 4_000,
}
BAD = {
    **{f"a cursor of {name}": ("cursor", cursor) for name, cursor in BAD_CURSORS.items()},
    **{f"a limit of {limit}": ("limit", limit) for limit in ("0", "-1", "201", "ten", "1.5", "9" * 30)},
    **{f"the status {status}": ("status", status) for status in ("DONE", "pending", "PENDING,CONFIRMED", "")},
}


@pytest.mark.parametrize("path", ["/orders", "/ops/orders"])
@pytest.mark.parametrize(("field", "value"), BAD.values(), ids=BAD)
async def test_what_cannot_be_meant_is_refused_by_its_name(
    open_all_day: Shop, path: str, field: str, value: str
) -> None:
    await refused(open_all_day, path, field, value)


@pytest.mark.parametrize("value", ["-1", "soon", "0.5", "1000000001", "nan"])
async def test_an_age_that_cannot_be_meant_is_refused_by_its_name(open_all_day: Shop, value: str) -> None:
    await refused(open_all_day, "/ops/orders", "older_than_s", value)


async def refused(shop: Shop, path: str, field: str, value: str) -> None:
    answer = await shop.get("order", f"{path}?{field}={quote(value)}", user="ann")

    body = problem(answer, 400, "invalid-request")
    assert [(error["field"], error["source"]) for error in body["errors"]] == [(field, "query")]
    assert body["errors"][0]["message"]


async def test_an_own_list_needs_to_know_whose(open_all_day: Shop) -> None:
    problem(await open_all_day.get("order", "/orders"), 401, "unauthorized")
    problem(await open_all_day.get("order", "/orders?limit=ten"), 401, "unauthorized")
    problem(await open_all_day.get("order", "/orders", user="ann smith"), 401, "unauthorized")


# Everybody's ----------------------------------------------------------------------------------------------------------


async def test_operators_see_every_order_once_oldest_first_with_whose_it_is(open_all_day: Shop) -> None:
    await open_all_day.register("plenty", stock=1_000)
    before = [order_id for user in ("ida", "jon", "kim") for order_id in await place(open_all_day, user, 2)]
    recorded = await settled(open_all_day)

    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await listed_for_operators(open_all_day, limit=4, cursor=cursor)
        assert len(page["orders"]) <= 4
        found += page["orders"]
        cursor = page["next"]

    assert records(open_all_day) == recorded
    assert [(order["order_id"], order["user_id"]) for order in found[-6:]] == list(
        zip(before, ["ida", "ida", "jon", "jon", "kim", "kim"], strict=True)
    )
    shown = await open_all_day.order(found[-1]["order_id"], "kim")
    assert {name: found[-1][name] for name in shown if name in found[-1]} == {
        name: shown[name] for name in shown if name in found[-1]
    }
    assert found[-1]["deadline"] == shown["deadline"]


async def test_operators_see_the_newest_first_and_those_of_one_customer_or_reason(open_all_day: Shop) -> None:
    await open_all_day.register("plenty", stock=1_000)
    good = await place(open_all_day, "lea", 2)
    bad = await place(open_all_day, "lea", 2, product="unknown")
    other = await place(open_all_day, "max", 1, product="unknown")
    await settled(open_all_day)

    assert ids(await listed_for_operators(open_all_day, sort="newest", limit=1)) == other
    of_lea = await listed_for_operators(open_all_day, sort="newest", user_id="lea", limit=3)
    assert ids(of_lea) == [*reversed(bad), good[1]]
    rest = await listed_for_operators(open_all_day, sort="newest", user_id="lea", limit=3, cursor=of_lea["next"])
    assert ids(rest) == [good[0]]
    assert ids(await listed_for_operators(open_all_day, user_id="lea", reason="product-unknown")) == bad
    assert ids(await listed_for_operators(open_all_day, user_id="lea", reason="coupon-expired")) == []


@pytest.mark.parametrize(
    ("field", "value"), [("sort", "oldest first"), ("reason", "bad"), ("compensated", "yes"), ("user_id", "ann smith")]
)
async def test_a_choice_that_cannot_be_meant_is_refused_by_its_name(open_all_day: Shop, field: str, value: str) -> None:
    await refused(open_all_day, "/ops/orders", field, value)


async def test_operators_find_the_orders_that_are_stuck(tmp_path: Path) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.1", ORDER_DEADLINE_S="600") as shop:
        await shop.register("plenty")
        await place(shop, "ann")
        await shop.stop("point")
        stuck = [order_id for user in ("ann", "bob", "ann") for order_id in await place(shop, user)]

        assert ids(await listed_for_operators(shop, status="PENDING")) == stuck
        assert ids(await listed_for_operators(shop, status="PENDING", older_than_s=300)) == []
        async for _ in attempts("all of them to be a second old"):
            if ids(await listed_for_operators(shop, status="PENDING", older_than_s=1)) == stuck:
                break
        first = await listed_for_operators(shop, status="PENDING", older_than_s=1, limit=2)
        second = await listed_for_operators(shop, status="PENDING", older_than_s=1, limit=2, cursor=first["next"])
        assert (ids(first), ids(second), second["next"]) == (stuck[:2], stuck[2:], None)
        assert ids(await listed(shop, "ann", status="PENDING")) == [stuck[2], stuck[0]]
        (order,) = (await listed(shop, "bob"))["orders"]
        assert {name for name, value in order.items() if value is None} == {
            *("reason", "ended_at", "total", "coupon_id", "discount", "amount_due")
        }

        await shop.start("point")
        for order_id, user in zip(stuck, ("ann", "bob", "ann"), strict=True):
            await shop.until_ended(order_id, user)
        assert ids(await listed_for_operators(shop, status="PENDING")) == []
        assert len(ids(await listed_for_operators(shop, status="CONFIRMED"))) == 4
