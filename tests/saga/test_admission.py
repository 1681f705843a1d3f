"""When orders arrive faster than they complete, new ones are rejected; when orders end, they are admitted again."""

import asyncio
import re
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from contracts import Line, Order, OrderCreatedPending
from order_svc.admission import ALWAYS_ADMITTED, AdmissionControl
from tests.saga.test_ends import canceled
from tests.shop import attempts, logged, open_shop

NOW = datetime(2026, 3, 2, tzinfo=UTC)
TOO_MANY = "too many orders are in flight"
OVERLOADED = "overloaded: the backlog exceeds what can complete in time"


def placed(order_id: str) -> OrderCreatedPending:
    order = Order("u1", (Line("p1", 1),), 0, None, NOW)
    return OrderCreatedPending(at=NOW, cause=None, order_id=order_id, order=order, deadline=NOW)


def test_orders_are_admitted_until_the_maximum_is_in_flight_or_queued() -> None:
    admission = AdmissionControl(2, soon_s=1)

    assert admission.rejection("o1", 0) is None
    assert admission.rejection("o1", 1) is None
    assert admission.rejection("o1", 2) == TOO_MANY
    admission.recorded([placed("o1")])
    assert admission.rejection("o2", 0) is None
    assert admission.rejection("o2", 1) == TOO_MANY
    admission.recorded([placed("o2")])
    assert admission.rejection("o3", 0) == TOO_MANY


def test_an_in_flight_order_is_admitted_again_and_one_that_ends_makes_room() -> None:
    admission = AdmissionControl(1, soon_s=1)
    admission.recorded([placed("o1")])

    assert admission.rejection("o1", 100) is None
    assert admission.rejection("o2", 0) == TOO_MANY
    admission.recorded([canceled("o1"), canceled("o0")])
    assert admission.rejection("o2", 0) is None


class Service:
    """1,000 in-flight orders that came at once; they end when a test says so."""

    def __init__(self, came: int = 1_000) -> None:
        self.now = 100.0
        self.admission = AdmissionControl(1_000_000, soon_s=2.0, clock=lambda: self.now)
        self.admission.recorded([placed(f"o{number}") for number in range(came)])
        self.left = came

    def end(self, orders: int, after_s: float) -> None:
        self.now += after_s
        self.admission.recorded([canceled(f"o{self.left - number - 1}") for number in range(orders)])
        self.left -= orders

    def rejection(self, waiting: int = 0) -> str | None:
        return self.admission.rejection("new", waiting)


def test_nothing_is_rejected_before_the_completion_rate_is_known() -> None:
    service = Service()

    service.end(0, after_s=0.19)

    assert service.rejection() is None


def test_no_more_are_admitted_than_complete_soon_at_the_observed_rate() -> None:
    service = Service()

    service.end(112, after_s=0.25)

    assert service.rejection(waiting=8) is None  # 896 in all, and so many end within two seconds
    assert service.rejection(waiting=9) == OVERLOADED
    assert service.admission.rejection("o0", 9) is None


def test_completions_of_long_ago_do_not_count() -> None:
    service = Service()

    service.end(500, after_s=0.5)
    assert service.rejection() is None
    service.end(1, after_s=2.1)

    assert service.rejection() == OVERLOADED
    service.end(248, after_s=0.125)
    assert service.rejection() == OVERLOADED
    service.end(1, after_s=0.125)
    assert service.rejection() is None


def test_a_few_stuck_orders_reject_nothing() -> None:
    service = Service(ALWAYS_ADMITTED)

    service.end(0, after_s=1_000)

    assert service.rejection() is None


def test_orders_canceled_by_their_deadline_are_no_completions() -> None:
    service = Service()

    service.now += 0.25
    service.admission.recorded([canceled(f"o{n}", "deadline-exceeded") for n in range(500)])

    assert service.rejection() == OVERLOADED
    service.admission.recorded([canceled(f"o{n}", "customer-canceled") for n in range(500, 900)])
    assert service.rejection() is None


def test_a_moment_with_few_orders_is_no_quiet_period() -> None:
    service = Service()
    service.end(1_000 - ALWAYS_ADMITTED, after_s=4.0)
    service.end(0, after_s=1.9)

    service.admission.recorded([placed(f"n{number}") for number in range(1_000)])

    assert service.rejection() == OVERLOADED, "936 ended within two seconds, and there are more"


def longest(ends_per_s: int, come_per_s: int, seconds: int) -> float:
    """The longest time that an order was in flight, at these rates of completions and arrivals."""
    now, number, waited = 0.0, 0, 0.0
    admission = AdmissionControl(1_000_000, soon_s=2.0, clock=lambda: now)
    left: deque[tuple[str, float]] = deque()
    for step in range(100 * seconds):
        now = step / 100
        for _ in range(come_per_s // 100):
            number += 1
            if admission.rejection(f"o{number}", 0) is None:
                admission.recorded([placed(f"o{number}")])
                left.append((f"o{number}", now))
        for _ in range((step + 1) * ends_per_s // 100 - step * ends_per_s // 100):
            if left:
                order_id, since = left.popleft()
                admission.recorded([canceled(order_id)])
                waited = max(waited, now - since if since > 1 else 0.0)
    return waited


@pytest.mark.parametrize(("ends", "come"), [(20, 500), (100, 1_000), (1_000, 4_000)])
def test_in_a_lasting_overload_no_order_takes_much_longer_than_planned(ends: int, come: int) -> None:
    assert longest(ends, come, 30) <= max(1.25 * 2.0, 1.05 * (ALWAYS_ADMITTED + 2) / ends)


def test_a_burst_after_a_quiet_period_is_judged_by_its_own_rate() -> None:
    service = Service()
    service.end(1_000, after_s=1.0)
    service.end(0, after_s=1_000)

    service.admission.recorded([placed(f"n{number}") for number in range(1_000)])

    assert service.rejection() is None
    service.now += 0.2
    assert service.rejection() == OVERLOADED


def test_orders_of_a_burst_after_a_quiet_period_that_come_before_its_first_commit_are_admitted() -> None:
    service = Service()
    service.end(1_000, after_s=1.0)

    service.now += 1.9
    assert service.rejection(waiting=1_100) == OVERLOADED, "1,000 end within two seconds, and it is not quiet for long"
    service.now += 0.2

    assert service.rejection(waiting=1_100) is None


def refused(stall_s: float, *, known: bool) -> int:
    """Place 100 orders a second, which complete at once but for a stall of this long; how many were refused.

    `known`: whether admission knows of stalls.
    """
    now, stalled, refusals = 0.0, 0.0, 0
    admission = AdmissionControl(4_096, 2.5, lambda: now, lambda: stalled if known else 0.0)
    admission.recorded([placed(f"b{n}") for n in range(2 * ALWAYS_ADMITTED)])
    left: deque[str] = deque()
    for step in range(800):
        now = step / 100
        stalls = 300 <= step < 300 + 100 * stall_s
        stalled += 0.01 if stalls else 0.0
        if admission.rejection(f"o{step}", 0) is None:
            admission.recorded([placed(f"o{step}")])
            left.append(f"o{step}")
        else:
            refusals += 1
        for _ in range(0 if stalls else 2):
            if left:
                admission.recorded([canceled(left.popleft())])
    return refusals


@pytest.mark.parametrize("stall_s", [0.5, 2.0, 3.0])
def test_a_stall_of_the_broker_refuses_nobody_while_it_lasts_and_afterwards(stall_s: float) -> None:
    assert refused(stall_s, known=True) == 0


def test_services_that_stall_for_so_long_count_as_overloaded() -> None:
    assert refused(3.0, known=False) > 0


def told(answer: httpx.Response, cause: str) -> bool:
    """Whether the 503 gives this cause, or says already that coupon_svc does not answer; and what to do."""
    known = rf"({re.escape(cause)}|coupon_svc has not answered since .*); retry after the given delay"
    return re.fullmatch(known, answer.json()["detail"]) is not None


async def test_new_orders_are_rejected_while_none_end_and_admitted_when_they_do(tmp_path: Path) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="600", ORDERS_IN_FLIGHT="2") as shop:
        await shop.register("mug")
        await shop.kill("coupon")
        first, second = [await shop.place([("mug", 1)], key=key) for key in ("first", "second")]
        before = logged(shop.folder, "order")

        third = await shop.place([("mug", 1)], key="third")
        again = await shop.place([("mug", 1)], key="first")

        assert (first.status_code, second.status_code) == (202, 202)
        assert third.status_code == 503
        assert third.headers["Retry-After"] == "1"
        assert told(third, TOO_MANY)
        assert again.status_code == 202
        assert logged(shop.folder, "order") == before

        await shop.start("coupon")
        async for _ in attempts("orders to be admitted again"):
            if (await shop.place([("mug", 1)], key="third")).status_code == 200:
                break
        await shop.until_quiet()


async def test_new_orders_are_rejected_while_the_backlog_is_long_and_admitted_when_it_is_gone(
    tmp_path: Path,
) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="600") as shop:
        await shop.register("mug", stock=1_000)
        await shop.kill("coupon")
        keys = [f"key-{n}" for n in range(ALWAYS_ADMITTED + 1)]
        waiting = await asyncio.gather(*(shop.place([("mug", 1)], key=key) for key in keys))
        before = logged(shop.folder, "order")

        late = await shop.place([("mug", 1)], key="late")

        assert {answer.status_code for answer in waiting} == {202}
        assert (late.status_code, late.headers["Retry-After"]) == (503, "1")
        assert told(late, OVERLOADED)
        assert logged(shop.folder, "order") == before
        await shop.start("coupon")
        async for _ in attempts("orders to be admitted again"):
            if (await shop.place([("mug", 1)], key="late")).status_code == 200:
                break
        assert {(await shop.place([("mug", 1)], key=key)).status_code for key in keys} == {200}
        await shop.until_quiet()
