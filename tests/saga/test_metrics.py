"""What each service exports for Prometheus: of orders of every end, within its bound, and as promtool wants it."""

import asyncio
from pathlib import Path

import pytest

from contracts import REASONS
from infra.local.services import service_names
from order_svc.measures import REFUSED
from tests.metrics import promtool, samples, series, value
from tests.metrics.queries import selectors
from tests.saga.test_roll_over import roll_over
from tests.shop import PATIENCE_S, Shop, attempts

MOST_SERIES = 500
REQUESTS = "http_server_request_duration_seconds_count"
FAILED = frozenset({("http_response_status_code", "500")})
AFTER_AN_AUDIT = {"saga_audit_good", "saga_audit_unjudged_facts", "saga_audit_age_seconds"}
AFTER_TEN_MINUTES = {"saga_data_fill_bytes_per_second"}


async def scrape(shop: Shop, service: str) -> str:
    return (await shop.get(service, "/metrics")).text


async def shown(shop: Shop, service: str, name: str, wanted: float, **labels: str) -> None:
    """Wait until the service exports this."""
    async for _ in attempts(f"{name}{labels} to be {wanted}", PATIENCE_S):
        text = await scrape(shop, service)
        if f"\n{name}" in text and value(text, name, **labels) == wanted:
            return


@pytest.fixture
async def traded(shop: Shop) -> Shop:
    """A shop after three orders that were confirmed, one that each step refused, and one that its customer canceled."""
    await shop.register("mug", 1_000, 10)
    await shop.charge("u1", 5_000)
    await shop.issue("c1", "u1")
    for n in range(3):
        assert (await shop.place([("mug", 1)], points=10, key=f"good-{n}")).status_code == 200
    assert (await shop.place([("mug", 99)], key="stock")).status_code == 409
    assert (await shop.place([("mug", 1)], points=6_000, key="points")).status_code == 409
    assert (await shop.place([("mug", 1)], points=10, coupon="none", key="coupon")).status_code == 409
    order_id = (await shop.place([("mug", 1)], key="withdrawn")).json()["order_id"]
    assert (await shop.post("order", f"/orders/{order_id}/cancel", {}, user="u1")).status_code == 200
    await shop.until_quiet()
    return shop


async def test_orders_are_counted_by_their_ends_and_timed(traded: Shop) -> None:
    assert (await traded.place([("mug", 0)], key="none")).status_code == 400
    await shown(traded, "order", "saga_orders_refused_total", 1, cause="invalid")
    await shown(traded, "order", "saga_order_compensation_duration_seconds_count", 4)
    text = await scrape(traded, "order")

    assert value(text, "saga_orders_accepted_total") == 7
    refused = {dict(one.labels)["cause"]: one.value for one in samples(text) if one.name == "saga_orders_refused_total"}
    assert refused == dict.fromkeys((*REFUSED, "rate"), 0) | {"invalid": 1}
    ended = {dict(one.labels)["reason"]: one.value for one in samples(text) if one.name == "saga_orders_ended_total"}
    assert ended == dict.fromkeys(REASONS, 0) | {
        "none": 4,
        "product-out-of-stock": 1,
        "points-exceed-total": 1,
        "coupon-unknown": 1,
        "customer-canceled": 1,
    }
    assert value(text, "saga_order_end_duration_seconds_count", end="confirmed") == 4
    assert value(text, "saga_order_end_duration_seconds_count", end="canceled") == 3  # the withdrawn one had ended
    for name in ("saga_orders_pending", "saga_oldest_pending_order_age_seconds", "saga_orders_uncompensated"):
        await shown(traded, "order", name, 0)  # gauges are read once a second
    await shown(traded, "order", "saga_oldest_uncompensated_order_age_seconds", 0)


async def test_each_service_counts_its_facts_steps_and_deliveries(traded: Shop) -> None:
    text = await scrape(traded, "point")

    assert value(text, "saga_facts_recorded_total", fact="point.used") == 5
    assert value(text, "saga_step_duration_seconds_count", fact="point.used") == 5
    assert value(text, "saga_step_duration_seconds_count", fact="point.use.failed") == 1
    assert value(text, "saga_hear_delay_seconds_count", consumer="point-hears-product-reserved") == 6
    assert value(text, "saga_commit_batch_size_sum") >= value(text, "saga_hear_delay_seconds_count")
    assert value(text, "saga_commit_duration_seconds_count") > 0
    assert value(text, "saga_consumer_redelivered_total") == 0
    assert value(text, "saga_dead_letters", consumer="point") == 0
    assert value(text, "saga_broker_connected") == 1
    assert value(text, "saga_ready") == len([one for one in samples(text) if one.name == "saga_ready"])
    await shown(traded, "point", "saga_relay_lag_facts", 0)
    await shown(traded, "order", "saga_view_lag_facts", 0, view="orders")


async def test_no_service_exports_too_much_and_promtool_takes_it(traded: Shop) -> None:
    for service in service_names():
        text = await scrape(traded, service)
        assert len(series(text)) <= MOST_SERIES
        assert {one.value for one in samples(text) if one.name == "saga_build_info"} == {1}
        promtool("check", "metrics", given=text)


async def test_rules_and_dashboard_select_what_is_exported(traded: Shop) -> None:
    found = [one for service in service_names() for one in samples(await scrape(traded, service))]
    found += [one._replace(labels=FAILED) for one in found if one.name == REQUESTS]  # a bug, which nothing here has

    nothing = [
        asked
        for asked in selectors()
        if asked.metric not in AFTER_AN_AUDIT | AFTER_TEN_MINUTES
        and not any(asked.matches(one.name, dict(one.labels)) for one in found)
    ]
    assert nothing == []


async def test_the_last_audit_is_exported(traded: Shop) -> None:
    text = await scrape(traded, "order")
    assert not AFTER_AN_AUDIT & {one.name for one in samples(text)}
    folder = traded.folder / "audit"
    folder.mkdir()
    (folder / "report.json").write_text('{"verdict": "findings", "made_at": "2026-01-31T09:00:00Z", "took_s": 1}')

    await shown(traded, "order", "saga_audit_good", 0)
    assert value(await scrape(traded, "order"), "saga_audit_age_seconds") > 0


async def test_more_orders_make_no_more_series(traded: Shop) -> None:
    before = {service: series(await scrape(traded, service)) for service in service_names()}

    async def trade(n: int) -> None:
        user = f"u{n}"
        await traded.register(f"p{n}", 100, 1)
        await traded.place([(f"p{n}", 1)], user=user, key=f"k{n}")
        await traded.place([(f"p{n}", 1)], user=user, key=f"l{n}")

    for first in range(0, 100, 20):
        await asyncio.gather(*(trade(n) for n in range(first, first + 20)))
    await traded.until_quiet()

    assert {service: series(await scrape(traded, service)) - before[service] for service in before} == {
        service: set() for service in before
    }


async def test_a_roll_over_shows_and_makes_no_series(traded: Shop) -> None:
    before = {service: series(await scrape(traded, service)) for service in service_names()}
    hears = "point-hears-product-reserved"
    heard = value(await scrape(traded, "point"), "saga_hear_delay_seconds_count", consumer=hears)

    await roll_over(traded)
    async for _ in attempts("an order to end after the roll-over"):
        if (await traded.place([("mug", 1)], key="rolled")).status_code == 200:
            break
    await traded.until_quiet()

    await shown(traded, "order", "saga_stream_generation", 1)
    await shown(traded, "order", "saga_stream_unsealed_generations", 0)
    await shown(traded, "point", "saga_consumer_pending_messages", 0)
    text = await scrape(traded, "point")
    assert value(text, "saga_hear_delay_seconds_count", consumer=hears) == heard + 1
    assert {service: series(await scrape(traded, service)) - before[service] for service in before} == {
        service: set() for service in before
    }


async def test_a_service_that_is_stopped_leaves_orders_waiting_and_it_shows(shop: Shop) -> None:
    shop.env |= {"ORDER_WAIT_S": "0.2", "ORDER_DEADLINE_S": "600"}
    await shop.stop("order")
    await shop.start("order")
    await shop.register("mug", 1_000, 10)
    await shop.stop("coupon")
    assert (await shop.place([("mug", 1)])).status_code == 202

    await shown(shop, "order", "saga_orders_pending", 1)
    await shop.kill("order")
    shop.env["ORDER_DEADLINE_S"] = "30"
    await shop.start("order")
    await shown(shop, "order", "saga_orders_pending", 1)  # found in the list of orders
    assert value(await scrape(shop, "order"), "saga_oldest_pending_order_age_seconds") > 0
    await shop.start("coupon")
    await shown(shop, "order", "saga_orders_pending", 0)
    await shown(shop, "order", "saga_orders_ended_total", 1, end="confirmed")


async def uncompensated(shop: Shop) -> list[str]:
    """The ids of the orders that order_svc lists as that, whatever other canceled orders it has."""
    answer = await shop.get("order", "/ops/orders?compensated=no")
    return [one["order_id"] for one in answer.json()["orders"]]


async def test_a_canceled_order_is_uncompensated_until_every_step_has_answered(shop: Shop) -> None:
    shop.env |= {"ORDER_WAIT_S": "0.2", "ORDER_DEADLINE_S": "0.5"}
    await shop.stop("order")
    await shop.start("order")
    await shop.register("mug", 1_000, 10)
    assert (await shop.place([("unknown", 1)])).status_code == 409
    await shop.stop("point")
    order_id = (await shop.place([("mug", 1)])).json()["order_id"]

    await shown(shop, "order", "saga_orders_ended_total", 1, reason="deadline-exceeded")
    await shown(shop, "order", "saga_orders_uncompensated", 1)
    assert await uncompensated(shop) == [order_id]
    await shop.kill("order")
    await shop.start("order")
    await shown(shop, "order", "saga_orders_uncompensated", 1)
    assert await uncompensated(shop) == [order_id]
    assert value(await scrape(shop, "order"), "saga_oldest_uncompensated_order_age_seconds") > 0
    await shop.start("point")
    await shown(shop, "order", "saga_orders_uncompensated", 0)
    assert await uncompensated(shop) == []
    await shown(shop, "order", "saga_order_compensation_duration_seconds_count", 1)


async def test_what_stops_a_service_shows_by_its_reason(shop: Shop, tmp_path: Path) -> None:
    await shop.kill("nats")

    await shown(shop, "point", "saga_broker_connected", 0)
    await shown(shop, "point", "saga_ready", 0, reason="broker")
    text = await scrape(shop, "point")
    assert value(text, "saga_ready", reason="store") == 1
    assert value(text, "saga_broker_sessions_total", outcome="lost") >= 1
