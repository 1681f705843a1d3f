"""`orders ledger`: every movement of a customer's points, a product's stock and a coupon, with the balance after it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.ops.asking import orders, told
from tests.shop import Shop, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

Sold = tuple[Shop, dict[str, str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sold(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sold]:
    """A closed shop, and the ids of its orders: confirmed, with a used coupon, with too few points, withdrawn.

    The one with too few points moves nothing.
    """
    async with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        await shop.register("mug", price=1_000, stock=5)
        await shop.charge("u1", 900)
        await shop.issue("c1", "u1", discount=300)
        ids = {}
        for name, points, coupon in (("confirmed", 100, "c1"), ("refused", 50, "c1"), ("poor", 950, None)):
            answer = await shop.place([("mug", 2)], points=points, coupon=coupon)
            ids[name] = str(answer.json()["order_id"])
            await shop.until_ended(ids[name])
            await shop.until_quiet()
        await shop.post("order", f"/orders/{ids['confirmed']}/cancel", user="u1")
        await shop.until_ended(ids["confirmed"])
        await shop.until_quiet()
        await shop.stop("point")
        await shop.stop("nats")
        yield shop, ids


def short(ledger: dict[str, Any], ids: dict[str, str]) -> list[tuple[object, ...]]:
    names = {order_id: name for name, order_id in ids.items()}
    return [
        (
            one["fact"],
            names.get(one["order_id"]),
            one["amount"],
            names.get(one["balance"], one["balance"]),
            one["reason"],
        )
        for one in ledger["movements"]
    ]


async def test_every_movement_of_a_customers_points(sold: Sold) -> None:
    shop, ids = sold
    found = await told(shop, "ledger", "user", "u1")

    assert (found["kind"], found["id"], found["balance"], found["left_out"]) == ("user", "u1", 900, 0)
    assert short(found, ids) == [
        ("point.deposited", None, 900, 900, None),
        ("point.debited", "confirmed", -100, 800, None),
        ("point.debited", "refused", -50, 750, None),
        ("point.credited", "refused", 50, 800, None),
        ("point.credited", "confirmed", 100, 900, None),
    ]


async def test_every_movement_of_a_products_stock(sold: Sold) -> None:
    shop, ids = sold

    assert short(await told(shop, "ledger", "product", "mug"), ids) == [
        ("product.registered", None, 0, 0, None),
        ("product.stock.added", None, 5, 5, None),
        ("product.stock.held", "confirmed", -2, 3, None),
        ("product.stock.held", "refused", -2, 1, None),
        ("product.stock.returned", "refused", 2, 3, None),
        ("product.stock.held", "poor", -2, 1, None),
        ("product.stock.returned", "poor", 2, 3, None),
        ("product.stock.returned", "confirmed", 2, 5, None),
    ]


async def test_every_movement_of_a_coupon(sold: Sold) -> None:
    shop, ids = sold

    assert short(await told(shop, "ledger", "coupon", "c1"), ids) == [
        ("coupon.issued", None, None, None, None),
        ("coupon.held", "confirmed", None, "confirmed", None),
        ("coupon.returned", "confirmed", None, None, None),
    ]


async def test_a_person_reads_a_table_with_amounts_and_reasons(sold: Sold) -> None:
    shop, ids = sold

    user, coupon = await orders(shop, "ledger", "user", "u1"), await orders(shop, "ledger", "coupon", "c1")

    lines = [line.split() for line in user.stdout.splitlines()]
    assert lines[0] == ["user", "u1", "now:", "900", "points"]
    assert lines[1] == ["time", "(UTC)", "fact", "order", "amount", "points", "detail"]
    assert [line[2:] for line in lines[2:]] == [
        ["point.deposited", "+900", "900", "900", "points"],
        ["point.debited", ids["confirmed"], "-100", "800", "100", "points"],
        ["point.debited", ids["refused"], "-50", "750", "50", "points"],
        ["point.credited", ids["refused"], "+50", "800", "50", "points"],
        ["point.credited", ids["confirmed"], "+100", "900", "100", "points"],
    ]
    assert coupon.stdout.startswith("coupon c1 now: free\n")


async def test_a_part_of_it(sold: Sold) -> None:
    shop, _ = sold
    whole = (await told(shop, "ledger", "user", "u1"))["movements"]
    third = whole[2]["at"]

    since = await told(shop, "ledger", "user", "u1", "--since", third)
    until = await told(shop, "ledger", "user", "u1", "--until", third)
    last = await told(shop, "ledger", "user", "u1", "--since", third, "--limit", "1")
    none = await orders(shop, "ledger", "user", "u1", "--limit", "0")

    assert since["movements"] == whole[2:]
    assert until["movements"] == whole[:3]
    assert (last["movements"], last["left_out"], last["balance"]) == (whole[-1:], 4, 900)
    assert (none.returncode, none.stdout.splitlines()[1:]) == (
        0,
        ["5 other movements are not shown (--since, --until, --limit)"],
    )


async def test_exit_codes_tell_scripts_what_is_wrong(sold: Sold, tmp_path: Path) -> None:
    shop, _ = sold

    unknown = await orders(shop, "ledger", "user", "nobody")
    kind, empty = await orders(shop, "ledger", "order", "x"), await orders(shop, "ledger", "user", "u 1")
    nowhere = await orders(shop, "ledger", "coupon", "c1", DATA_DIR=str(tmp_path))

    assert (unknown.returncode, unknown.stderr) == (1, "there is no user nobody\n")
    assert [kind.returncode, empty.returncode, nowhere.returncode] == [2, 2, 3]
    assert "the log of coupon_svc cannot be read" in nowhere.stderr
