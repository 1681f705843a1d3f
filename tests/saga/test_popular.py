"""The popular products of a running shop: what counts, what is taken back, and what no fault changes."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ops.asking import orders
from tests.ops.damage import publish_again, rows
from tests.saga.rush import Rush
from tests.shop import Shop, attempts, background, open_shop

Ranking = list[tuple[str, int]]
"""Product and pieces, best first."""


async def ranking(shop: Shop, **parameters: int) -> Ranking | None:
    """None while the view is being built."""
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    answer = await shop.get("product", f"/products/popular?{query}")
    if answer.status_code == 503:
        return None
    assert answer.status_code == 200, answer.text
    return [(product["product_id"], product["quantity"]) for product in answer.json()["products"]]


async def until_ranked(shop: Shop, expected: Ranking, **parameters: int) -> None:
    async for _ in attempts(f"the ranking to be {expected}"):
        with contextlib.suppress(httpx.TransportError):
            if await ranking(shop, **parameters) == expected:
                return


async def until_it_follows(shop: Shop) -> None:
    """Returns when the view has read all of the stream."""
    async for _ in attempts("the view to catch up"):
        with contextlib.suppress(httpx.TransportError):
            views = (await shop.get("product", "/ops/views")).json()["views"]
            if [view["behind"] for view in views if view["name"] == "popular"] == [0]:
                return


def tables(folder: Path) -> dict[str, list[Any]]:
    """Everything the view has counted."""
    with contextlib.closing(sqlite3.connect(folder / "product" / "popular.view.sqlite")) as file:
        return {
            name: file.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            if name != "taken_back"
            else file.execute("SELECT * FROM taken_back ORDER BY 1").fetchall()
            for name in ("sold", "taken_back", "daily")
        }


async def rebuilt(shop: Shop) -> dict[str, list[Any]]:
    """What the view comes to from nothing: its file is thrown away."""
    await shop.stop("product")
    for file in (shop.folder / "product").glob("popular.view.sqlite*"):
        file.unlink()
    await shop.start("product")
    await until_it_follows(shop)
    return tables(shop.folder)


@pytest.fixture
async def stocked(shop: Shop) -> Shop:
    for product in ("mug", "tea", "pot"):
        await shop.register(product, stock=1_000)
    return shop


async def test_pieces_in_confirmed_orders_are_counted_and_equals_are_ranked_by_their_newest_sale(
    stocked: Shop,
) -> None:
    for product, quantity in (("mug", 2), ("tea", 1), ("pot", 5), ("tea", 1), ("mug", 1), ("tea", 1)):
        assert (await stocked.place([(product, quantity)])).status_code == 200
    assert (await stocked.place([("tea", 2_000)])).status_code in (400, 409)

    await until_ranked(stocked, [("pot", 5), ("tea", 3), ("mug", 3)])
    assert await ranking(stocked, limit=1, days=90) == [("pot", 5)]


async def test_what_is_canceled_later_is_taken_back_once(stocked: Shop) -> None:
    first = (await stocked.place([("mug", 3), ("tea", 1)])).json()["order_id"]
    await stocked.place([("mug", 1)])
    await until_ranked(stocked, [("mug", 4), ("tea", 1)])

    for _ in range(2):
        await stocked.post("order", f"/orders/{first}/cancel", user="u1")
    await until_ranked(stocked, [("mug", 1)])

    assert await rebuilt(stocked) == tables(stocked.folder)
    assert await ranking(stocked) == [("mug", 1)]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("query", ["days=0", "days=91", "limit=0", "limit=101", "days=three"])
async def test_a_ranking_that_cannot_be_meant_is_refused(open_all_day: Shop, query: str) -> None:
    answer = await open_all_day.get("product", f"/products/popular?{query}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.asyncio(loop_scope="module")
async def test_it_says_which_days_it_is_about(open_all_day: Shop) -> None:
    async for _ in attempts("the view to be there"):
        answer = await open_all_day.get("product", "/products/popular?days=1")
        if answer.status_code == 200:
            break
    found = answer.json()

    assert found["time_zone"] == "Asia/Seoul"
    assert found["from"] == found["to"]


@pytest.mark.parametrize("step", ["uncommitted", "committed"])
async def test_killed_while_it_counts_it_counts_the_same(step: str, tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        rush = Rush(shop, 60)
        await rush.prepare()
        await shop.stop("product")
        shop.env |= {"CRASH_AT": step, "CRASH_VIEW": "popular"}
        await shop.start("product", wrapper="view_crash", ready=False)
        async with background(rush.place()):
            assert await shop.ended("product") == -9
            await shop.start("product")
        await shop.until_quiet()
        fine = sum(placed.kind == "fine" for placed in rush.placed)
        await until_ranked(shop, [("plenty", fine)])

        live = tables(shop.folder)
        assert await rebuilt(shop) == live


async def test_facts_that_stand_twice_in_a_stream_that_was_lost_are_counted_once(tmp_path: Path) -> None:
    async with open_shop(tmp_path, DUPLICATE_WINDOW_S="0.1") as shop:
        await shop.register("mug", stock=1_000)
        for _ in range(3):
            await shop.place([("mug", 1)])
        await until_ranked(shop, [("mug", 3)])
        for _ in range(2):
            for record in rows(shop, "order"):
                await publish_again(shop, record)
        await shop.until_quiet()
        events = [event.fact_id for event in await shop.events() if event.fact == "order.confirmed"]
        assert len(events) > len(set(events)) == 3
        await until_it_follows(shop)
        assert await ranking(shop) == [("mug", 3)]

        await shop.kill("nats")
        shop.lose_stream()
        await shop.start_nats()
        async for _ in attempts("an order to be taken again"):
            if (await shop.place([("mug", 1)], key="after")).status_code == 200:
                break
        await until_ranked(shop, [("mug", 4)])
        live = tables(shop.folder)
        assert await rebuilt(shop) == live


async def test_rebuilding_it_stops_no_order_and_comes_to_the_same(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        rush = Rush(shop, 300)
        await rush.prepare()
        async with background(rush.place()):
            await until_it_follows(shop)
            with contextlib.closing(sqlite3.connect(shop.folder / "product" / "popular.view.sqlite")) as file:
                file.execute("INSERT INTO sold VALUES ('no order', 'never sold', 1, 1, 1)")  # what a rebuild is for
                file.commit()
            told = await orders(shop, "rebuild", "popular")
            assert (told.returncode, told.stderr) == (0, "")
        await rush.assert_settled()
        fine = sum(placed.kind == "fine" for placed in rush.placed)

        await until_ranked(shop, [("plenty", fine)])
        live = tables(shop.folder)
        assert await rebuilt(shop) == live
        assert "popular is rebuilt" in told.stdout


@pytest.mark.asyncio(loop_scope="module")
async def test_rebuilding_says_what_there_is_to_rebuild(open_all_day: Shop) -> None:
    unknown = await orders(open_all_day, "rebuild", "sales")
    away = await orders(open_all_day, "rebuild", "popular", PRODUCT_PORT="1")
    unneeded = await orders(open_all_day, "rebuild", "popular", ORDER_PORT="1", COUPON_PORT="1")

    assert [unknown.returncode, away.returncode, unneeded.returncode] == [2, 3, 0]
    assert "no service that answers has a read model 'popular'" in away.stderr
    assert "product_svc at http://127.0.0.1:1 cannot be reached" in away.stderr
    assert "popular (product_svc)" in unknown.stderr
