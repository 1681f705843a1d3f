"""The order list after a crash, or thrown away: what the log makes of it, and the deadlines of what was left open."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from infra.store.sqlite import SQLiteStore
from order_svc.listing import Listing
from tests.infra.read_models.test_log_view import following
from tests.saga.rush import Rush
from tests.shop import Shop, attempts, background, log_of, open_shop

ALL = "SELECT * FROM orders ORDER BY order_id"


def kept(shop: Shop) -> list[tuple[Any, ...]]:
    """What is in the service's own file."""
    with contextlib.closing(sqlite3.connect(shop.folder / "order" / "orders.view.sqlite")) as file:
        return file.execute(ALL).fetchall()


async def rebuilt(shop: Shop, folder: Path) -> list[tuple[Any, ...]]:
    """What the service's log makes from nothing, in another folder than the service's."""
    async with (
        SQLiteStore.open(shop.folder / "order" / "events.sqlite") as store,
        following(store, folder, Listing()) as view,
    ):
        found: list[tuple[Any, ...]] = await view.select(ALL)
    return found


def throw_away(shop: Shop) -> None:
    for file in (shop.folder / "order").glob("orders.view.sqlite*"):
        file.unlink()


def placed(shop: Shop) -> int:
    return sum(entry.version == 1 for entry in log_of(shop.folder, "order"))


async def test_a_list_that_is_killed_half_way_is_what_a_rebuild_gives(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        rush = Rush(shop, 60)
        await rush.prepare()
        await rush.place(range(20))
        await shop.get("order", "/ops/orders")  # answered when the list has them
        await shop.stop("order")
        before = kept(shop)
        assert len(before) == 20

        shop.env |= {"CRASH_AT": "listed", "CRASH_AFTER": "1"}
        await shop.start("order", wrapper="crash")
        async with background(rush.place(range(20, 60))):
            assert await shop.ended("order") == -9
            assert placed(shop) > len(before), "the list was behind"
            assert kept(shop) == before, "nothing of what it was at is kept"
            await shop.start("order")
        await rush.assert_settled()
        await shop.get("order", "/ops/orders")
        await shop.stop("order")

        found = kept(shop)
        assert len(found) == placed(shop) == 60
        assert found == await rebuilt(shop, tmp_path)


async def test_a_list_that_was_thrown_away_is_rebuilt_as_it_was(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        rush = Rush(shop, 30)
        await rush.prepare()
        await rush.place()
        await shop.until_quiet()
        before = (await shop.get("order", "/ops/orders?limit=200")).json()
        assert len(before["orders"]) == 30

        await shop.kill("order")
        throw_away(shop)
        await shop.start("order")

        assert (await shop.get("order", "/ops/orders?limit=200")).json() == before


async def test_orders_left_open_are_timed_also_when_the_list_was_lost(tmp_path: Path) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="1") as shop:
        await shop.register("mug")
        await shop.stop("point")
        order_id = (await shop.place([("mug", 1)])).json()["order_id"]
        await shop.kill("order")
        throw_away(shop)
        await shop.start("order")

        async for _ in attempts("the deadline"):
            (order,) = (await shop.get("order", "/orders", user="u1")).json()["orders"]
            if order["status"] != "PENDING":
                break
        assert (order["order_id"], order["reason"]) == (order_id, "deadline-exceeded")
