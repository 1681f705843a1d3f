"""When orders come in faster than they can end, the door closes, and opens again."""

from datetime import UTC, datetime
from pathlib import Path

from contracts import Line, Order, OrderCreatedPending
from order_svc.under_way import UnderWay
from tests.saga.test_ends import canceled
from tests.shop import attempts, logged, open_shop

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def placed(order_id: str) -> OrderCreatedPending:
    order = Order("u1", (Line("p1", 1),), 0, None, NOW)
    return OrderCreatedPending(at=NOW, cause=None, order_id=order_id, order=order, deadline=NOW)


def test_there_is_room_until_so_many_are_under_way_or_wait() -> None:
    under_way = UnderWay(2)

    assert under_way.admits("o1", 0)
    assert under_way.admits("o1", 1)
    assert not under_way.admits("o1", 2)
    under_way.recorded([placed("o1")])
    assert under_way.admits("o2", 0)
    assert not under_way.admits("o2", 1)
    under_way.recorded([placed("o2")])
    assert not under_way.admits("o3", 0)


def test_who_is_in_may_come_again_and_who_ends_makes_room() -> None:
    under_way = UnderWay(1)
    under_way.recorded([placed("o1")])

    assert under_way.admits("o1", 100)
    assert not under_way.admits("o2", 0)
    under_way.recorded([canceled("o1"), canceled("o0")])
    assert under_way.admits("o2", 0)


async def test_the_door_closes_when_orders_do_not_end_and_opens_when_they_do(tmp_path: Path) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="600", ORDERS_UNDER_WAY="2") as shop:
        await shop.register("mug")
        await shop.kill("coupon")
        first, second = [await shop.place([("mug", 1)], key=key) for key in ("first", "second")]
        before = logged(shop.folder, "order")

        third = await shop.place([("mug", 1)], key="third")
        again = await shop.place([("mug", 1)], key="first")

        assert (first.status_code, second.status_code) == (202, 202)
        assert third.status_code == 503
        assert third.headers["Retry-After"] == "1"
        assert third.json()["detail"] == "too many orders are under way"
        assert again.status_code == 202
        assert logged(shop.folder, "order") == before

        await shop.start("coupon")
        async for _ in attempts("the door to open"):
            if (await shop.place([("mug", 1)], key="third")).status_code == 200:
                break
        await shop.until_quiet()
