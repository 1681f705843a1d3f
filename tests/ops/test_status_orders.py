"""`orders status` names the orders that wait longest with what each waits for, and has rates over minutes if it can."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from contracts.step import fact_name
from contracts.wire import STEPS
from ops.client import ServiceAddress
from ops.dashboard.poller import KEPT_EVERY_S, LATELY_S, Poller
from ops.status.command import rates_from, screen, stuck_lines
from ops.status.figures import Figures, figures
from ops.status.minutes import over_minutes, told
from ops.status.stuck import Stuck, StuckOrder, canceled_words, pending_words, stuck
from order_svc.waits import PublishedAt
from tests.ops.asking import orders
from tests.ops.boards import Board
from tests.ops.test_status import look, seen
from tests.shop import Shop, attempts

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ORDER = ServiceAddress("order", "http://127.0.0.1:8001")
ENV = {"DASHBOARD_PORT": "8009"}
LATE = (
    "saga_orders_pending 1\nsaga_oldest_pending_order_age_seconds 41\n"
    "saga_orders_uncompensated 1\nsaga_oldest_uncompensated_order_age_seconds 61"
)

Answer = Callable[[httpx.Request], httpx.Response]


@contextlib.asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        yield http


def seen_now(text: str = "", seconds: float = 2.0) -> Figures:
    order = seen("order", f"saga_orders_accepted_total 7\n{text}")
    return figures(look(0, order=order), look(seconds, order=order))


# Which orders wait ----------------------------------------------------------------------------------------------------


def published(*names: str) -> dict[str, PublishedAt]:
    return {name: PublishedAt(n, NOON) for n, name in enumerate(names, 1)}


def test_a_pending_order_waits_for_the_services_that_have_not_answered() -> None:
    assert pending_words(published("order.created.pending")) == "product_svc to answer order.created.pending"
    assert pending_words(published("order.created.pending", "product.reserved")) == (
        "point_svc to answer product.reserved"
    )
    assert pending_words(published("order.created.pending", "product.reserve.failed")) == (
        "order_svc to answer product.reserve.failed"
    )
    assert pending_words({}) == "order_svc to publish it"


def test_a_canceled_order_waits_for_the_services_that_have_not_given_back() -> None:
    first, *others = STEPS.awaited
    taken = [fact_name(step.done) for step in STEPS.awaited]

    assert canceled_words("deadline-exceeded", taken).split(" and ")[0] == (
        f"{first.service}_svc to say {fact_name(first.undone)} or {fact_name(first.fenced)}"
    )
    given_back = [fact_name(step.undone) for step in others]
    assert " and " not in canceled_words("deadline-exceeded", [*taken, *given_back])
    assert canceled_words("deadline-exceeded", [*taken, *given_back, fact_name(first.fenced)]) == "nothing any more"


ROW = {"order_id": "o1", "user_id": "u1", "placed_at": "2026-01-31T11:59:00Z"}
LISTS: dict[str, Any] = {
    "/ops/orders?status=PENDING&limit=3": [{**ROW, "status": "PENDING", "ended_at": None}],
    "/ops/orders?compensated=no&limit=100": [
        {**ROW, "order_id": f"o{n}", "status": "CANCELED", "ended_at": f"2026-01-31T11:59:{seconds}Z"}
        for n, seconds in ((5, 50), (3, 40), (4, 45), (2, 30))
    ],
}


def order_svc(request: httpx.Request) -> httpx.Response:
    path = str(request.url).removeprefix(ORDER.url)
    if path in LISTS:
        return httpx.Response(200, json={"orders": LISTS[path], "next": None})
    assert request.headers["x-user-id"] == "u1"
    steps = [{"fact": "order.created.pending", "service": "order", "at": "2026-01-31T11:59:00Z"}]
    reason = None if path == "/orders/o1" else "deadline-exceeded"
    return httpx.Response(200, json={"reason": reason, "steps": steps, "unavailable": None})


async def test_those_that_wait_longest_are_named_with_what_they_wait_for() -> None:
    async with answering(order_svc) as http:
        found = await stuck(http, ORDER, seen_now(LATE), 2)

    assert [(one.order_id, one.status, one.since) for one in found.orders] == [
        ("o1", "PENDING", NOON - timedelta(minutes=1)),
        ("o2", "CANCELED", NOON - timedelta(seconds=30)),
        ("o3", "CANCELED", NOON - timedelta(seconds=20)),
        ("o4", "CANCELED", NOON - timedelta(seconds=15)),
    ]
    lines = stuck_lines(found, NOON)
    assert lines[1:3] == [
        "  o1  pending for 60 s: waits for product_svc to answer order.created.pending",
        "       just trace o1",
    ]
    assert lines[3].startswith("  o2  canceled for 30 s: waits for product_svc to say product.released or ")


async def test_while_none_is_late_nothing_is_asked() -> None:
    async with answering(lambda request: pytest.fail(f"asked for {request.url}")) as http:
        found = await stuck(http, ORDER, seen_now("saga_oldest_pending_order_age_seconds 5"), 2)

    assert found == Stuck()
    assert stuck_lines(found, NOON) == []


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(503, json={"detail": "full"}), httpx.Response(200, json={"orders": 5}), httpx.Response(200)],
)
async def test_why_they_cannot_be_named_is_said(answer: httpx.Response) -> None:
    async with answering(lambda _: answer) as http:
        found = await stuck(http, ORDER, seen_now(LATE), 2)

    assert found.orders == ()
    assert stuck_lines(found, NOON)[0].startswith("which orders wait is not known: order_svc at http://127.0.0.1:8001")


async def test_without_the_broker_what_it_waits_for_is_not_known() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/orders/o1":
            return httpx.Response(200, json={"steps": None, "unavailable": "no broker"})
        return order_svc(request)

    async with answering(answer) as http:
        (first, *_) = (await stuck(http, ORDER, seen_now(LATE), 2)).orders

    assert first == StuckOrder("o1", "PENDING", NOON - timedelta(minutes=1), "not known: no broker")


async def test_a_stuck_order_of_a_running_shop_is_named(shop: Shop) -> None:
    shop.env |= {"ORDER_WAIT_S": "0.1", "ORDER_DEADLINE_S": "600"}
    await shop.stop("order")
    await shop.start("order")
    await shop.register("mug")
    await shop.stop("point")
    order_id = (await shop.place([("mug", 1)], points=1)).json()["order_id"]

    async for _ in attempts("the order to be late"):
        found = json.loads((await orders(shop, "status", "--json")).stdout)["stuck"]
        if found:
            break
    assert [(one["order_id"], one["waits_for"]) for one in found] == [
        (order_id, "point_svc to answer product.reserved")
    ]
    assert f"just trace {order_id}" in (await orders(shop, "status")).stdout


# Rates over minutes ---------------------------------------------------------------------------------------------------


def dashboard(seconds: float, order: str = ORDER.url, accepted: float = 9.0) -> Answer:
    has = seen_now(seconds=seconds)._replace(accepted=accepted)
    body = msgspec.to_builtins(told(ServiceAddress("order", order), has))

    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "http://127.0.0.1:8009/figures"
        return httpx.Response(200, json=body)

    return answer


async def rates(answer: Answer) -> tuple[float, float]:
    async with answering(answer) as http:
        found = await over_minutes(http, ENV, ORDER, seen_now("saga_orders_pending 3"))
    assert found.pending == 3, "what is of a moment stays"
    return found.window_s, found.accepted


async def test_the_dashboard_of_this_system_has_the_rates_of_minutes() -> None:
    assert await rates(dashboard(300)) == (300, 9)


OTHERS: dict[str, Answer] = {
    "of another system": dashboard(300, "http://127.0.0.1:9001"),
    "that has just started": dashboard(1),
    "another program": lambda _: httpx.Response(200, json={"order": ORDER.url, "figures": {}}),
    "no JSON": lambda _: httpx.Response(200, text="<html>"),
    "not ready": lambda _: httpx.Response(503, json={"detail": "it has just started"}),
}


@pytest.mark.parametrize("answer", OTHERS.values(), ids=OTHERS)
async def test_what_else_answers_there_changes_nothing(answer: Answer) -> None:
    assert await rates(answer) == (2, 0)


def test_it_is_said_over_what_time_the_rates_are() -> None:
    shown = screen(look(0), look(2), NOON)

    assert rates_from(shown) == "those of the last 2 s; a running dashboard, or --watch, has them over minutes"
    assert rates_from(shown._replace(figures=seen_now(seconds=300))) == "those of the last 300 s"


async def test_the_dashboard_keeps_a_look_of_minutes_ago() -> None:
    times = [0.0, 5.0, KEPT_EVERY_S, LATELY_S, LATELY_S + KEPT_EVERY_S]
    looks = [look(at, order=seen("order", f"saga_orders_accepted_total {at}")) for at in times]

    async def ask() -> Any:
        return looks.pop(0)

    poller = Poller(ask, lambda: NOON)
    running = asyncio.create_task(poller.run())
    windows = []
    for number in range(len(times)):
        await poller.after(number)
        windows.append(None if (found := poller.recent()) is None else (found.window_s, found.accepted))
        poller._wanted.set()
    poller.close()
    await running

    assert windows == [None, (5, 1), (KEPT_EVERY_S, 1), (LATELY_S, 1), (LATELY_S, 1)]


async def test_a_running_dashboard_tells_status_what_it_has_seen(shop: Shop) -> None:
    board = Board(shop)
    await board.start()

    async for _ in attempts("the dashboard to have seen more than two seconds"):
        found = json.loads((await orders(shop, "status", "--json")).stdout)
        if found["figures"]["window_s"] > 3:
            break
    assert found["well"]
