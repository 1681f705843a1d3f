"""After a busy day both copies of history agree with the services' answers and break no invariant."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio

from contracts import OrderCanceled, OrderConfirmed, SagaFact
from contracts.wire import NAMES, decode
from ops.fold import folded_logs, folded_stream, live
from ops.invariants import CouponSeen, Live, LogEntry, Message, OrderSeen, ProductSeen, check
from ops.invariants.live import differences
from tests.audit.crowd import LATE, ORDERS, RARE, Answered, Crowd, open_crowd
from tests.domain.spec import AGGREGATES
from tests.shop import Shop, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEED: Final = 2_026


@dataclass
class Day:
    """The state of everything once all was quiet."""

    answers: list[Answered]
    """The first ends that the clients got as answers."""
    logs: dict[str, list[LogEntry]]
    stream: list[Message]
    live: Live
    views: list[dict[str, Any]]
    """GET /orders/{order_id} of every order."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def day(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Day]:
    async with open_shop(tmp_path_factory.mktemp("shop")) as shop, open_crowd(shop, SEED) as crowd:
        await crowd.prepare()
        await crowd.shop_till_closing()
        await shop.until_quiet()
        logs, stream = await shop.copies()
        views = await crowd.each(crowd.answers, lambda client, told: client.order(told.order_id, told.wish.user))
        yield Day(crowd.answers, logs, stream, await _ask(crowd, views), views)


async def _ask(crowd: Crowd, orders: list[dict[str, Any]]) -> Live:
    """The services' answers about everything that the crowd knows."""

    async def product(client: Shop, product_id: str) -> ProductSeen:
        body = (await client.get("product", f"/products/{product_id}")).json()
        return ProductSeen(body["price"], body["available"])

    async def coupon(client: Shop, coupon_id: str) -> CouponSeen:
        body = (await client.get("coupon", f"/coupons/{coupon_id}")).json()
        return CouponSeen(body["user_id"], body["discount"], body["order_id"])

    users = [*crowd.users, *crowd.poor]
    return Live(
        products=dict(zip(crowd.products, await crowd.each(crowd.products, product), strict=True)),
        balances=dict(zip(users, await crowd.each(users, Shop.balance), strict=True)),
        coupons=dict(zip(crowd.coupons, await crowd.each(crowd.coupons, coupon), strict=True)),
        orders={
            view["order_id"]: OrderSeen(
                view["status"], view["reason"], view["total"], view["discount"], view["amount_due"]
            )
            for view in orders
        },
    )


async def test_both_copies_fold_to_what_the_services_answer(day: Day) -> None:
    from_logs = folded_logs(day.logs.values(), AGGREGATES)
    from_stream = folded_stream(day.stream, AGGREGATES)
    assert from_logs.early == from_stream.early == {}
    assert list(differences(live(from_logs), live(from_stream))) == []
    assert list(differences(live(from_logs), day.live)) == []


async def test_every_invariant_holds(day: Day) -> None:
    assert check(day.logs, day.stream, quiet=True, live=day.live) == []


async def test_every_order_shows_its_facts_and_whether_all_is_back(day: Day) -> None:
    said: dict[str, list[str]] = {}
    for log in day.logs.values():
        for entry in log:
            fact = decode(entry.body)
            if isinstance(fact, SagaFact):
                said.setdefault(fact.order_id, []).append(NAMES[type(fact)])
    for view in day.views:
        assert sorted(step["fact"] for step in view["steps"]) == sorted(said[view["order_id"]])
        assert view["compensated"] is (True if view["status"] == "CANCELED" else None)


async def test_what_clients_were_told_is_what_the_log_says(day: Day) -> None:
    first_ends: dict[str, str] = {}
    for entry in day.logs["order"]:
        match decode(entry.body):
            case OrderConfirmed(order_id=order_id):
                first_ends.setdefault(order_id, "CONFIRMED")
            case OrderCanceled(order_id=order_id, reason=reason):
                first_ends.setdefault(order_id, reason)
    assert Counter(answered.end for answered in day.answers) == Counter(first_ends.values())
    assert {answered.order_id: answered.end for answered in day.answers} == first_ends


async def test_the_day_was_as_mixed_as_it_was_meant_to_be(day: Day) -> None:
    ends: dict[str, Counter[str]] = {}
    for answered in day.answers:
        ends.setdefault(answered.wish.kind, Counter())[answered.end] += 1
    assert len(day.answers) > ORDERS
    for kind, told in ends.items():
        match kind:
            case "fine" | "repeated" | "regretted":
                assert set(told) == {"CONFIRMED"}
            case "late":
                assert told == {"customer-canceled": LATE}
            case "interrupted":
                assert set(told) <= {"customer-canceled", "CONFIRMED"}
            case "rare":
                assert told["CONFIRMED"] == RARE
                assert set(told) == {"CONFIRMED", "product-out-of-stock"}
            case _:
                assert set(told) == {kind}
