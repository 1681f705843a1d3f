"""Orders that are withdrawn: by the customer, pending or confirmed, or by their deadline while a step is down."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.shop import Shop, attempts, open_shop

TOOK = {"product": "product.reserved", "point": "point.used", "coupon": "coupon.used"}
GAVE_BACK = {"product": "product.released", "point": "point.refunded", "coupon": "coupon.restored"}
FENCED = {"product": "product.reserve.voided", "point": "point.use.voided", "coupon": "coupon.use.voided"}
HEARD = {"product": "order.created.pending", "point": "product.reserved", "coupon": "point.used"}
"""What makes each step act."""
STEPS = ["product", "point", "coupon"]


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop whose clients wait half a second, with goods for customer u1."""
    async with open_shop(tmp_path, ORDER_WAIT_S="0.5") as shop:
        await prepare(shop)
        yield shop


async def prepare(shop: Shop) -> None:
    await shop.register("mug", stock=10)
    await shop.charge("u1", 1_000)
    await shop.issue("c1", "u1")


async def assert_all_given_back(shop: Shop) -> None:
    assert (await shop.available("mug"), await shop.balance("u1"), await shop.coupon_used_by("c1")) == (10, 1_000, None)


async def until_facts_include(shop: Shop, order_id: str, fact: str) -> None:
    async for _ in attempts(fact):
        if fact in await shop.facts(order_id):
            return


async def test_a_confirmed_order_is_canceled_by_its_customer(impatient: Shop) -> None:
    order_id = (await impatient.place([("mug", 2)], points=500, coupon="c1", key="k")).json()["order_id"]

    answer = await impatient.post("order", f"/orders/{order_id}/cancel", user="u1")

    assert (answer.status_code, answer.json()["status"]) == (200, "CANCELED")
    assert answer.json()["reason"] == "customer-canceled"
    view = await impatient.until_ended(order_id)
    assert view["compensated"] is True
    await impatient.until_quiet()
    facts = await impatient.facts(order_id)
    assert facts[5:7] == ["order.confirmed", "order.canceled"]
    assert sorted(facts[7:]) == ["coupon.restored", "point.refunded", "product.released", "product.stock.returned"]
    await assert_all_given_back(impatient)
    # Again: the same answer, nothing new; and the request that placed it still gets its first answer.
    assert (await impatient.post("order", f"/orders/{order_id}/cancel", user="u1")).status_code == 200
    replayed = await impatient.place([("mug", 2)], points=500, coupon="c1", key="k")
    assert (replayed.status_code, replayed.json()["status"]) == (200, "CONFIRMED")
    assert replayed.headers["Idempotent-Replayed"] == "true"
    await impatient.until_quiet()
    assert await impatient.facts(order_id) == facts


@pytest.mark.parametrize("down", STEPS)
async def test_a_pending_order_is_canceled_by_its_customer(down: str, impatient: Shop) -> None:
    await impatient.stop(down)
    answer = await impatient.place([("mug", 2)], points=500, coupon="c1")
    assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")
    order_id = answer.json()["order_id"]
    assert answer.headers["Location"] == f"/orders/{order_id}"

    canceled = await impatient.post("order", f"/orders/{order_id}/cancel", user="u1")
    assert (canceled.status_code, canceled.json()["status"]) == (200, "CANCELED")
    assert (await impatient.order(order_id))["compensated"] is False
    await impatient.start(down)

    await assert_withdrawn(impatient, order_id, STEPS[: STEPS.index(down) + 1], "customer-canceled", last_may_be=True)


@pytest.mark.parametrize("down", STEPS)
async def test_a_step_that_hears_of_the_cancel_first_takes_nothing(down: str, impatient: Shop) -> None:
    await impatient.stop(down)
    order_id = (await impatient.place([("mug", 2)], points=500, coupon="c1")).json()["order_id"]
    await until_facts_include(impatient, order_id, HEARD[down])
    canceled = await impatient.post("order", f"/orders/{order_id}/cancel", user="u1")
    assert (canceled.status_code, canceled.json()["status"]) == (200, "CANCELED")

    impatient.env["HELD_AT_FIRST"] = "2"
    await impatient.start(down, wrapper="backwards")

    await assert_withdrawn(impatient, order_id, STEPS[: STEPS.index(down)], "customer-canceled")


@pytest.mark.parametrize("down", STEPS)
async def test_the_deadline_passes_while_a_step_is_down(down: str, tmp_path: Path) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="10", ORDER_DEADLINE_S="0.8") as shop:
        await prepare(shop)
        await shop.stop(down)

        answer = await shop.place([("mug", 2)], points=500, coupon="c1")

        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/deadline-exceeded")
        order_id = answer.json()["order_id"]
        assert (await shop.order(order_id))["compensated"] is False
        await shop.start(down)
        await assert_withdrawn(shop, order_id, STEPS[: STEPS.index(down) + 1], "deadline-exceeded", last_may_be=True)


async def test_the_deadline_passes_while_orders_are_down(tmp_path: Path) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="1") as shop:
        await prepare(shop)
        await shop.stop("coupon")
        order_id = (await shop.place([("mug", 2)], points=500, coupon="c1")).json()["order_id"]
        await shop.kill("order")
        await until_facts_include(shop, order_id, "point.used")
        await shop.start("order")
        async for _ in attempts("the deadline"):
            if (await shop.order(order_id))["status"] == "CANCELED":
                break
        await shop.start("coupon")
        await assert_withdrawn(shop, order_id, STEPS, "deadline-exceeded", last_may_be=True)


async def assert_withdrawn(
    shop: Shop, order_id: str, took: list[str], reason: str, *, last_may_be: bool = False
) -> None:
    """These steps took and gave back, those behind them are fenced, and all is as it was.

    `last_may_be`: the last of these steps was down. Two of its consumers have what it was to do, and that the order is
    over. The one that is quicker decides whether it took something or is fenced.
    """
    view = await shop.until_ended(order_id)
    assert (view["status"], view["reason"], view["compensated"]) == ("CANCELED", reason, True)
    await shop.until_quiet()
    found = sorted(await shop.facts(order_id))
    assert found in [_withdrawn(took), *([_withdrawn(took[:-1])] if last_may_be else [])]
    await assert_all_given_back(shop)


def _withdrawn(took: list[str]) -> list[str]:
    return sorted(
        [
            "order.created.pending",
            "order.canceled",
            *(["product.stock.held", "product.stock.returned"] if "product" in took else []),
            *(fact for step in took for fact in (TOOK[step], GAVE_BACK[step])),
            *(FENCED[step] for step in STEPS if step not in took),
        ]
    )
