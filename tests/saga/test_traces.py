"""Live traces of a running shop, as a collector gets them: the tree of facts for every end; and nothing waits."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.spans import root, trace_id
from ops import otlp, reading
from ops.trace import facts_of
from tests.collector import Collector, TakenSpan, collector
from tests.metrics import value
from tests.ops.asking import orders, told
from tests.saga.test_dead_letters import until_parked
from tests.shop import JSON, Shop, attempts, open_shop

CLIENT = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
"""Trace and span of a client that traces itself."""


@pytest.fixture
def taking() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture
async def shop(tmp_path: Path, taking: Collector) -> AsyncIterator[Shop]:
    async with open_shop(
        tmp_path,
        ORDER_WAIT_S="0.5",
        ORDER_DEADLINE_S="3",
        OTEL_EXPORTER_OTLP_ENDPOINT=taking.url,
        OTEL_TRACES_SAMPLER_ARG="1",
    ) as shop:
        await shop.register("mug", stock=100)
        await shop.register("rare", stock=1)
        await shop.charge("u1", 10_000)
        yield shop


async def history(shop: Shop, order_id: str) -> set[tuple[str, str, str]]:
    """The tree of the order's facts, in its own trace."""
    async with reading.stream(shop.env) as stream:
        spans = otlp.spans_of((await facts_of(stream, order_id))[0])
    return {
        (order_id, f"{span.context.span_id:016x}", "" if span.parent is None else f"{span.parent:016x}")
        for span in spans
        if span.context.trace_id == trace_id(order_id)
    }


async def live(shop: Shop, taking: Collector, order_id: str) -> list[TakenSpan]:
    """The order's trace at the collector, without requests, once it is the tree of its facts."""
    await shop.until_quiet()
    expected = await history(shop, order_id)
    found: list[TakenSpan] = []
    async for _ in attempts(f"the trace of {order_id}"):
        found = [span for span in taking.of(order_id) if not span.name.startswith("POST")]
        if {span.place for span in found} >= expected:
            break
    assert {span.place for span in found} == expected
    assert len(found) == len(expected), "twins"
    return found


async def test_every_end_is_a_tree(shop: Shop, taking: Collector) -> None:
    await shop.issue("c1", "u1")
    await shop.issue("c2", "u2")
    await shop.issue("old", "u1", expires_at="2020-01-01T00:00:00Z")
    placed = {
        "confirmed": await shop.place([("mug", 2)], points=10, coupon="c1"),
        "product-unknown": await shop.place([("none", 1)]),
        "product-out-of-stock": await shop.place([("rare", 2)]),
        "points-insufficient": await shop.place([("mug", 30)], points=20_000),
        "points-exceed-total": await shop.place([("mug", 1)], points=9_000),
        "coupon-unknown": await shop.place([("mug", 1)], points=5, coupon="none"),
        "coupon-already-used": await shop.place([("mug", 1)], coupon="c1"),
        "coupon-expired": await shop.place([("mug", 1)], coupon="old"),
        "coupon-not-yours": await shop.place([("mug", 1)], coupon="c2"),
    }

    for end, answer in placed.items():
        order_id = answer.json()["order_id"]
        spans = await live(shop, taking, order_id)
        (top,) = [span for span in spans if span.name == "order"]
        assert top.attributes.get("saga.order.reason", top.attributes["saga.order.end"]) == end
        assert {span.status for span in spans} == {0}, "a refusal is no error"
        (posted,) = [span for span in taking.of(order_id) if span.name == "POST /orders"]
        assert (posted.parent, posted.attributes["http.response.status_code"]) == (top.span, answer.status_code)


async def test_a_clients_trace_is_linked_and_a_repeat_is_another_request_of_the_same_order(
    shop: Shop, taking: Collector
) -> None:
    body = b'{"lines": [{"product_id": "mug", "quantity": 1}]}'
    headers = JSON | {"X-User-Id": "u1", "Idempotency-Key": "k1", "traceparent": "-".join(["00", *CLIENT, "01"])}

    answers = [await shop.http.post(shop.url("order", "/orders"), content=body, headers=headers) for _ in range(2)]

    order_id = answers[0].json()["order_id"]
    spans = await live(shop, taking, order_id)
    async for _ in attempts("both requests"):
        posted = [span for span in taking.of(CLIENT[0]) if span.name == "POST /orders"]
        if len(posted) == 2:
            break
    assert {span.parent for span in posted} == {CLIENT[1]}
    assert {link for span in posted for link in span.links} == {(order_id, f"{root(order_id).span_id:016x}")}
    (top,) = [span for span in spans if span.name == "order"]
    assert top.links == ((CLIENT[0], posted[0].span),)


async def test_a_cancel_by_the_customer_and_one_at_the_deadline_are_linked(shop: Shop, taking: Collector) -> None:
    confirmed = (await shop.place([("mug", 1)])).json()["order_id"]
    (await shop.post("order", f"/orders/{confirmed}/cancel", user="u1")).raise_for_status()
    await shop.stop("coupon")
    late = (await shop.place([("mug", 1)])).json()["order_id"]
    async for _ in attempts("the deadline"):
        if (await shop.order(late))["status"] == "CANCELED":
            break
    await shop.start("coupon")

    canceled = await live(shop, taking, confirmed)
    expired = await live(shop, taking, late)

    (cancel,) = [span for span in canceled if span.name == "cancel order"]
    (request,) = [span for span in taking.spans if span.name == "POST /orders/{order_id}/cancel"]
    assert cancel.attributes["saga.trigger"] == "customer"
    assert cancel.links == ((request.trace, request.span),)
    (expire,) = [span for span in expired if span.name == "expire order"]
    (timer,) = [span for span in taking.spans if span.name == "deadline"]
    assert (expire.attributes["saga.trigger"], expire.links) == ("deadline", ((timer.trace, timer.span),))
    assert timer.links == ((expire.trace, expire.span),)


async def test_a_service_that_is_killed_goes_on_in_the_same_trace(shop: Shop, taking: Collector) -> None:
    """point_svc dies at the fact that it has heard; what comes again is recorded, and a span, once."""
    shop.env["ALLERGIC_TO"] = '"points":13'
    await shop.stop("point")
    waiting = (await shop.place([("mug", 1)], points=12)).json()["order_id"]
    await shop.start("point", ready=False)
    await shop.kill("point")
    await shop.start("point")

    spans = await live(shop, taking, waiting)

    assert [span.name for span in spans if span.service == "point_svc"][:1] == ["process product.reserved"]


async def test_a_dead_letter_is_an_error_and_its_redrive_joins_the_trace(shop: Shop, taking: Collector) -> None:
    shop.env["ALLERGIC_TO"] = '"points":13'
    await shop.stop("point")
    await shop.start("point", wrapper="allergic")
    stuck = (await shop.place([("mug", 1)], points=13)).json()["order_id"]
    found = await until_parked(shop, 2)
    async for _ in attempts("the span of the dead letter"):
        if parked := [span for span in taking.of(stuck) if span.events == ("saga.parked",)]:
            break
    assert [(span.name, span.status, span.attributes["error.type"]) for span in parked] == [
        ("process product.reserved", 2, "ZeroDivisionError")
    ]
    assert parked[0].attributes["saga.attempt"] == 4
    await shop.stop("point")
    await shop.start("point")
    await told(shop, "dlq", "redrive", str(found[0].sequence), "--yes")
    await shop.until_quiet()
    expected = await history(shop, stuck)

    async for _ in attempts("the redriven ones"):
        spans = [span for span in taking.of(stuck) if not span.name.startswith("POST") and span not in parked]
        if {span.place for span in spans} == expected:
            break

    assert {span.place for span in spans} == expected
    redriven = [span for span in spans if span.attributes.get("saga.trigger") == "operator"]
    (request,) = [span for span in taking.spans if "redrive" in span.name]
    assert redriven
    assert all((request.trace, request.span) in span.links for span in redriven)


async def test_a_collector_that_is_gone_costs_spans_alone(shop: Shop, taking: Collector) -> None:
    taking.refuses = 503

    answer = await shop.place([("mug", 1)])

    assert answer.status_code == 200
    async for _ in attempts("what cannot be sent is said"):
        if "spans cannot be sent" in shop.log("order").read_text():
            break
    assert value((await shop.get("order", "/metrics")).text, "saga_spans_total", outcome="failed") > 0
    taking.refuses = None
    order_id = answer.json()["order_id"]
    await shop.until_quiet()
    sent = await orders(shop, "trace", order_id, "--otlp", taking.url)
    assert (sent.returncode, sent.stderr) == (0, "")
    expected = await history(shop, order_id)
    assert {span.place for span in taking.of(order_id)} >= expected
