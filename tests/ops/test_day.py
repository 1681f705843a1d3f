"""Looking into a day of 2,000 orders: what happened to one of them, and what was when."""

from tests.audit.crowd import ORDERS, Answered
from tests.ops.asking import orders, told
from tests.ops.conftest import Day
from tests.shop import Shop


def one(day: Day, kind: str) -> Answered:
    return next(answered for answered in day.answers if answered.wish.kind == kind)


async def test_one_order_of_many_is_traced(day: Day, running: Shop) -> None:
    assert len(day.answers) >= ORDERS
    regretted, refused = one(day, "regretted"), one(day, "coupon-expired")

    facts = [step["fact"] for step in await told(running, "trace", regretted.order_id)]
    assert facts.index("order.confirmed") < facts.index("order.canceled") < facts.index("point.refunded")
    assert "coupon.restored" in facts
    facts = [step["fact"] for step in await told(running, "trace", refused.order_id)]
    assert facts[0] == "order.created.pending"
    assert {"coupon.use.failed", "point.refunded", "product.released", "order.canceled"} <= set(facts)
    drawn = await orders(running, "trace", refused.order_id, "--mermaid")
    assert drawn.stdout.startswith("sequenceDiagram\n")


async def test_an_order_as_it_was_before_it_was_regretted(day: Day, left: Shop) -> None:
    regretted = one(day, "regretted")

    now = await told(left, "at", "order", regretted.order_id)
    confirmed_at = now["state"]["first_end"]["at"]
    then = await told(left, "at", "order", regretted.order_id, "--time", confirmed_at)

    assert (now["fact"], then["fact"]) == ("order.canceled", "order.confirmed")
