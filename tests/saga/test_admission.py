"""When orders come in faster than they can end, the door closes, and opens again."""

import asyncio
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts import Line, Order, OrderCreatedPending
from order_svc.under_way import FEW, AdmissionControl
from tests.saga.test_ends import canceled
from tests.shop import attempts, logged, open_shop

NOW = datetime(2026, 3, 2, tzinfo=UTC)
TOO_MANY = "too many orders are under way"
NOT_SOON = "more orders are under way than end soon"


def placed(order_id: str) -> OrderCreatedPending:
    order = Order("u1", (Line("p1", 1),), 0, None, NOW)
    return OrderCreatedPending(at=NOW, cause=None, order_id=order_id, order=order, deadline=NOW)


def test_there_is_room_until_so_many_are_under_way_or_wait() -> None:
    under_way = AdmissionControl(2, soon_s=1)

    assert under_way.closed("o1", 0) is None
    assert under_way.closed("o1", 1) is None
    assert under_way.closed("o1", 2) == TOO_MANY
    under_way.recorded([placed("o1")])
    assert under_way.closed("o2", 0) is None
    assert under_way.closed("o2", 1) == TOO_MANY
    under_way.recorded([placed("o2")])
    assert under_way.closed("o3", 0) == TOO_MANY


def test_who_is_in_may_come_again_and_who_ends_makes_room() -> None:
    under_way = AdmissionControl(1, soon_s=1)
    under_way.recorded([placed("o1")])

    assert under_way.closed("o1", 100) is None
    assert under_way.closed("o2", 0) == TOO_MANY
    under_way.recorded([canceled("o1"), canceled("o0")])
    assert under_way.closed("o2", 0) is None


class Service:
    """Orders under way, of which 1,000 came at once; they end when a test says so."""

    def __init__(self, came: int = 1_000) -> None:
        self.now = 100.0
        self.under_way = AdmissionControl(1_000_000, soon_s=2.0, clock=lambda: self.now)
        self.under_way.recorded([placed(f"o{number}") for number in range(came)])
        self.left = came

    def end(self, orders: int, after_s: float) -> None:
        self.now += after_s
        self.under_way.recorded([canceled(f"o{self.left - number - 1}") for number in range(orders)])
        self.left -= orders

    def closed(self, waiting: int = 0) -> str | None:
        return self.under_way.closed("new", waiting)


def test_nobody_is_turned_away_before_it_can_be_known_how_fast_orders_end() -> None:
    service = Service()

    service.end(0, after_s=0.19)

    assert service.closed() is None


def test_no_more_may_be_under_way_than_end_soon_at_the_rate_at_which_they_did() -> None:
    service = Service()

    service.end(112, after_s=0.25)

    assert service.closed(waiting=8) is None  # 896 in all, and so many end within two seconds
    assert service.closed(waiting=9) == NOT_SOON
    assert service.under_way.closed("o0", 9) is None


def test_how_fast_orders_ended_long_ago_does_not_count() -> None:
    service = Service()

    service.end(500, after_s=0.5)
    assert service.closed() is None
    service.end(1, after_s=2.1)

    assert service.closed() == NOT_SOON
    service.end(248, after_s=0.125)
    assert service.closed() == NOT_SOON
    service.end(1, after_s=0.125)
    assert service.closed() is None


def test_a_few_that_do_not_end_turn_nobody_away() -> None:
    service = Service(FEW)

    service.end(0, after_s=1_000)

    assert service.closed() is None


def test_orders_whose_time_ran_out_are_no_sign_of_how_fast_others_end() -> None:
    service = Service()

    service.now += 0.25
    service.under_way.recorded([canceled(f"o{n}", "deadline-exceeded") for n in range(500)])

    assert service.closed() == NOT_SOON
    service.under_way.recorded([canceled(f"o{n}", "customer-canceled") for n in range(500, 900)])
    assert service.closed() is None


def test_a_moment_with_a_few_is_no_quiet_time() -> None:
    service = Service()
    service.end(1_000 - FEW, after_s=4.0)
    service.end(0, after_s=1.9)

    service.under_way.recorded([placed(f"n{number}") for number in range(1_000)])

    assert service.closed() == NOT_SOON, "936 ended within two seconds, and there are more"


def longest(ends_per_s: int, come_per_s: int, seconds: int) -> float:
    """That an order was under way, when so many end, one after another, and so many would come in."""
    now, number, waited = 0.0, 0, 0.0
    under_way = AdmissionControl(1_000_000, soon_s=2.0, clock=lambda: now)
    left: deque[tuple[str, float]] = deque()
    for step in range(100 * seconds):
        now = step / 100
        for _ in range(come_per_s // 100):
            number += 1
            if under_way.closed(f"o{number}", 0) is None:
                under_way.recorded([placed(f"o{number}")])
                left.append((f"o{number}", now))
        for _ in range((step + 1) * ends_per_s // 100 - step * ends_per_s // 100):
            if left:
                order_id, since = left.popleft()
                under_way.recorded([canceled(order_id)])
                waited = max(waited, now - since if since > 1 else 0.0)
    return waited


@pytest.mark.parametrize(("ends", "come"), [(20, 500), (100, 1_000), (1_000, 4_000)])
def test_in_a_lasting_overload_nobody_waits_for_much_longer_than_he_should(ends: int, come: int) -> None:
    assert longest(ends, come, 30) <= max(1.25 * 2.0, 1.05 * (FEW + 2) / ends)


def test_a_crowd_after_a_quiet_time_is_judged_by_itself() -> None:
    service = Service()
    service.end(1_000, after_s=1.0)
    service.end(0, after_s=1_000)

    service.under_way.recorded([placed(f"n{number}") for number in range(1_000)])

    assert service.closed() is None
    service.now += 0.2
    assert service.closed() == NOT_SOON


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
        assert third.json()["detail"] == TOO_MANY
        assert again.status_code == 202
        assert logged(shop.folder, "order") == before

        await shop.start("coupon")
        async for _ in attempts("the door to open"):
            if (await shop.place([("mug", 1)], key="third")).status_code == 200:
                break
        await shop.until_quiet()


async def test_the_door_closes_when_more_are_under_way_than_end_soon_and_opens_when_they_ended(tmp_path: Path) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="600") as shop:
        await shop.register("mug", stock=1_000)
        await shop.kill("coupon")
        keys = [f"key-{n}" for n in range(FEW + 1)]
        waiting = await asyncio.gather(*(shop.place([("mug", 1)], key=key) for key in keys))
        before = logged(shop.folder, "order")

        late = await shop.place([("mug", 1)], key="late")

        assert {answer.status_code for answer in waiting} == {202}
        assert (late.status_code, late.headers["Retry-After"], late.json()["detail"]) == (503, "1", NOT_SOON)
        assert logged(shop.folder, "order") == before
        await shop.start("coupon")
        async for _ in attempts("the door to open"):
            if (await shop.place([("mug", 1)], key="late")).status_code == 200:
                break
        assert {(await shop.place([("mug", 1)], key=key)).status_code for key in keys} == {200}
        await shop.until_quiet()
