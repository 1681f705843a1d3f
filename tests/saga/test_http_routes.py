"""Products, points and coupons over HTTP: the first time, again, otherwise, and in pages."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.saga.asking import problem, records, settled
from tests.shop import Shop

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def register(shop: Shop, product_id: str, **otherwise: Any) -> httpx.Response:
    body = {"product_id": product_id, "name": "Mug", "price": 1_000, "stock": 5, **otherwise}
    return await shop.post("product", "/products", body)


async def issue(shop: Shop, coupon_id: str, **otherwise: Any) -> httpx.Response:
    body = {"coupon_id": coupon_id, "user_id": "ann", "discount": 300, "expires_at": "2099-01-01T00:00:00Z"}
    return await shop.post("coupon", "/coupons", {**body, **otherwise})


# Products -------------------------------------------------------------------------------------------------------------


async def test_a_product_is_registered_once(open_all_day: Shop) -> None:
    first = await register(open_all_day, "once")
    before = await settled(open_all_day)
    again = await register(open_all_day, "once")

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == {"product_id": "once", "name": "Mug", "price": 1_000, "available": 5}
    assert records(open_all_day) == before


@pytest.mark.parametrize("otherwise", [{"name": "Cup"}, {"price": 999}, {"stock": 6}], ids=str)
async def test_a_product_registered_otherwise_is_refused(open_all_day: Shop, otherwise: dict[str, Any]) -> None:
    await register(open_all_day, "otherwise")
    before = await settled(open_all_day)

    problem(await register(open_all_day, "otherwise", **otherwise), 409, "product-exists")

    assert records(open_all_day) == before


async def test_a_product_may_be_registered_before_there_is_any_of_it(open_all_day: Shop) -> None:
    assert (await register(open_all_day, "none-yet", stock=0)).json()["available"] == 0
    assert (await register(open_all_day, "none-yet", stock=0)).status_code == 200


async def test_a_product_registered_by_many_at_once_is_registered_once(open_all_day: Shop) -> None:
    answers = await asyncio.gather(*(register(open_all_day, "crowd") for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert await open_all_day.available("crowd") == 5


async def test_a_product_may_have_any_name(open_all_day: Shop) -> None:
    name = '머그컵 "크다" <b>&\n\u2028🫖'

    await register(open_all_day, "named", name=name)

    assert (await open_all_day.get("product", "/products/named")).json()["name"] == name


async def test_stock_is_added_once_per_key(open_all_day: Shop) -> None:
    await register(open_all_day, "stocked")

    first = await open_all_day.post("product", "/products/stocked/stock", {"quantity": 7}, key="delivery-1")
    again = await open_all_day.post("product", "/products/stocked/stock", {"quantity": 7}, key="delivery-1")
    more = await open_all_day.post("product", "/products/stocked/stock", {"quantity": 7}, key="delivery-2")

    assert [answer.status_code for answer in (first, again, more)] == [201, 201, 201]
    assert [answer.headers.get("Idempotent-Replayed") for answer in (first, again, more)] == [None, "true", None]
    assert [answer.json()["available"] for answer in (first, again, more)] == [12, 12, 19]


async def test_stock_added_without_a_key_gets_one(open_all_day: Shop) -> None:
    await register(open_all_day, "keyless")

    answers = [await open_all_day.post("product", "/products/keyless/stock", {"quantity": 1}) for _ in range(2)]

    assert len({answer.headers["Idempotency-Key"] for answer in answers}) == 2
    assert await open_all_day.available("keyless") == 7


async def test_the_same_key_for_other_stock_is_refused(open_all_day: Shop) -> None:
    await register(open_all_day, "restocked")
    await open_all_day.post("product", "/products/restocked/stock", {"quantity": 7}, key="delivery-1")

    answer = await open_all_day.post("product", "/products/restocked/stock", {"quantity": 8}, key="delivery-1")

    problem(answer, 422, "idempotency-key-reused")
    assert await open_all_day.available("restocked") == 12


async def test_products_have_keys_of_their_own(open_all_day: Shop) -> None:
    for product_id in ("own-1", "own-2"):
        await register(open_all_day, product_id)
        await open_all_day.post("product", f"/products/{product_id}/stock", {"quantity": 1}, key="delivery-1")

    assert [await open_all_day.available(product_id) for product_id in ("own-1", "own-2")] == [6, 6]


async def test_an_unknown_product_is_not_found(open_all_day: Shop) -> None:
    problem(await open_all_day.get("product", "/products/unknown"), 404, "product-not-found")
    answer = await open_all_day.post("product", "/products/unknown/stock", {"quantity": 1}, key="k")
    problem(answer, 404, "product-not-found")


async def test_products_are_listed_by_id_in_pages(open_all_day: Shop) -> None:
    ids = [f"page-{n:02}" for n in range(12)]
    for product_id in reversed(ids):
        await register(open_all_day, product_id)

    found: list[str] = []
    after = "page-"
    while after:
        page = (await open_all_day.get("product", f"/products?limit=5&after={after}")).json()
        assert len(page["products"]) <= 5
        found += [product["product_id"] for product in page["products"]]
        after = page["next"]

    assert [product_id for product_id in found if product_id.startswith("page-")] == ids
    assert found == sorted(found)


async def test_a_page_ends_exactly_where_the_products_do(open_all_day: Shop) -> None:
    for n in range(3):
        await register(open_all_day, f"zzz-{n}")

    whole = (await open_all_day.get("product", "/products?limit=3&after=zzz-")).json()
    beyond = (await open_all_day.get("product", "/products?after=zzz-2")).json()

    assert ([product["product_id"] for product in whole["products"]], whole["next"]) == (
        ["zzz-0", "zzz-1", "zzz-2"],
        None,
    )
    assert beyond == {"products": [], "next": None, "unreadable": []}


async def test_whoever_was_told_of_a_product_finds_it_in_the_list_and_its_stock_as_it_is(open_all_day: Shop) -> None:
    for n in range(10):
        await register(open_all_day, f"told-{n}")
        page = (await open_all_day.get("product", f"/products?after=told-{n - 1 if n else ''}")).json()
        assert page["products"][0] == {"product_id": f"told-{n}", "name": "Mug", "price": 1_000, "available": 5}

    await open_all_day.place([("told-3", 2)], user="ann")
    (product,) = (await open_all_day.get("product", "/products?limit=1&after=told-2")).json()["products"]
    assert product["available"] == 3


# Points ---------------------------------------------------------------------------------------------------------------


async def test_an_account_is_charged_once_per_key(open_all_day: Shop) -> None:
    async def charge(amount: int, key: str) -> httpx.Response:
        return await open_all_day.post("point", "/points/bob/charge", {"amount": amount}, key=key)

    first, again, more = await charge(500, "t1"), await charge(500, "t1"), await charge(500, "t2")

    assert [answer.status_code for answer in (first, again, more)] == [201, 201, 201]
    assert [answer.headers.get("Idempotent-Replayed") for answer in (first, again, more)] == [None, "true", None]
    assert first.json() == again.json() == {"user_id": "bob", "balance": 500}
    assert more.json()["balance"] == await open_all_day.balance("bob") == 1_000
    problem(await charge(501, "t1"), 422, "idempotency-key-reused")
    assert await open_all_day.balance("bob") == 1_000


async def test_the_same_charge_many_times_at_once_is_one_charge(open_all_day: Shop) -> None:
    answers = await asyncio.gather(
        *(open_all_day.post("point", "/points/cat/charge", {"amount": 70}, key="t1") for _ in range(30))
    )

    assert {answer.json()["balance"] for answer in answers} == {70}
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers].count(None) == 1


async def test_an_account_that_was_never_charged_is_empty(open_all_day: Shop) -> None:
    answer = await open_all_day.get("point", "/points/nobody")

    assert (answer.status_code, answer.json()) == (200, {"user_id": "nobody", "balance": 0})


# Coupons --------------------------------------------------------------------------------------------------------------


async def test_a_coupon_is_issued_once(open_all_day: Shop) -> None:
    first, again = await issue(open_all_day, "once"), await issue(open_all_day, "once")

    assert (first.status_code, again.status_code) == (201, 200)
    assert (
        first.json()
        == again.json()
        == {
            "coupon_id": "once",
            "user_id": "ann",
            "discount": 300,
            "expires_at": "2099-01-01T00:00:00Z",
            "order_id": None,
        }
    )


@pytest.mark.parametrize(
    "otherwise",
    [{"user_id": "bob"}, {"discount": 301}, {"expires_at": "2099-01-01T00:00:01Z"}],
    ids=str,
)
async def test_a_coupon_issued_otherwise_is_refused(open_all_day: Shop, otherwise: dict[str, Any]) -> None:
    await issue(open_all_day, "otherwise")
    before = await settled(open_all_day)

    problem(await issue(open_all_day, "otherwise", **otherwise), 409, "coupon-exists")

    assert records(open_all_day) == before


async def test_the_same_instant_in_another_zone_is_the_same_expiry(open_all_day: Shop) -> None:
    await issue(open_all_day, "zoned", expires_at="2099-01-01T00:00:00Z")

    assert (await issue(open_all_day, "zoned", expires_at="2099-01-01T09:00:00+09:00")).status_code == 200


@pytest.mark.parametrize("expires_at", ["2001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_an_expiry_may_be_any_instant_also_a_past_one(open_all_day: Shop, expires_at: str) -> None:
    user = f"u{expires_at[:4]}"
    await register(open_all_day, "expiring")
    assert (await issue(open_all_day, f"c{expires_at[:4]}", user_id=user, expires_at=expires_at)).status_code == 201

    answer = await open_all_day.place([("expiring", 1)], user=user, coupon=f"c{expires_at[:4]}")

    if expires_at.startswith("9999"):
        assert answer.status_code == 200
    else:
        problem(answer, 409, "coupon-expired")


async def test_an_unknown_coupon_is_not_found(open_all_day: Shop) -> None:
    problem(await open_all_day.get("coupon", "/coupons/unknown"), 404, "coupon-not-found")


async def test_a_customers_coupons_are_listed_by_id_in_pages_and_nobody_elses(open_all_day: Shop) -> None:
    for n in range(7):
        await issue(open_all_day, f"eve-{n}", user_id="eve")
        await issue(open_all_day, f"eve-not-{n}", user_id="fay")

    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = (await open_all_day.get("coupon", f"/coupons?user_id=eve&limit=3&after={after}")).json()
        found += [coupon["coupon_id"] for coupon in page["coupons"]]
        after = page["next"]

    assert found == [f"eve-{n}" for n in range(7)]
    assert (await open_all_day.get("coupon", "/coupons?user_id=nobody")).json() == {
        "coupons": [],
        "next": None,
        "unreadable": [],
    }


async def test_a_listed_coupon_names_the_order_that_uses_it(open_all_day: Shop) -> None:
    await register(open_all_day, "couponed")
    await issue(open_all_day, "gus-1", user_id="gus")

    order = (await open_all_day.place([("couponed", 1)], user="gus", coupon="gus-1")).json()

    (coupon,) = (await open_all_day.get("coupon", "/coupons?user_id=gus")).json()["coupons"]
    assert coupon["order_id"] == order["order_id"] == await open_all_day.coupon_used_by("gus-1")
