"""`orders trace` on a running shop: the whole story of one order, for people, for machines and for pages."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from contracts import OrderCanceled, OrderCreatedPending
from contracts.wire import NAMES, POSITION, STREAM, VERSION, encode, subject
from infra.broker.client import VERSION_LINE
from infra.local.services import ROOT
from ops import reading
from ops.trace import TraceLine, mermaid, style, table, trace
from tests.collector import collector
from tests.examples import order_canceled, order_created
from tests.ops.asking import orders
from tests.ops.damage import publish_again, rewrite_stream, rows
from tests.shop import PATIENCE_S, Shop, attempts, open_shop

COUPON_REFUSED = [
    ("order", "order.created.pending"),
    ("product", "product.stock.held"),
    ("product", "product.reserved"),
    ("point", "point.debited"),
    ("point", "point.used"),
    ("coupon", "coupon.use.failed"),
    ("point", "point.credited"),
    ("point", "point.refunded"),
    ("product", "product.stock.returned"),
    ("product", "product.released"),
    ("order", "order.canceled"),
]


async def traced(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await orders(shop, "trace", *arguments)


async def steps(shop: Shop, order_id: str) -> list[dict[str, Any]]:
    done = await traced(shop, order_id, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


async def refused(shop: Shop) -> str:
    """An order that is refused by its last step."""
    await shop.register("mug", stock=100)
    await shop.charge("u1", 1_000)
    answer = await shop.place([("mug", 1)], points=10, coupon="no-such-coupon")
    assert answer.status_code == 409
    await shop.until_quiet()
    return str(answer.json()["order_id"])


async def test_every_fact_of_an_order_with_its_cause_and_its_time(shop: Shop) -> None:
    order_id = await refused(shop)
    await shop.place([("mug", 1)], key="of another order, in the same ledger")

    found = await steps(shop, order_id)

    assert sorted((step["service"], step["fact"]) for step in found) == sorted(COUPON_REFUSED)
    assert [step["sequence"] for step in found] == sorted(step["sequence"] for step in found)
    ids = {step["fact_id"] for step in found}
    assert [step["fact"] for step in found if step["cause"] is None] == ["order.created.pending"]
    assert all(step["cause"] in ids for step in found if step["cause"])
    assert found[0]["ms"] == 0
    assert all(0 <= step["ms"] < 60_000 for step in found)
    assert all(step["at"].endswith("+00:00") for step in found)
    assert {step["fact"]: step["detail"] for step in found}["coupon.use.failed"] == "coupon-unknown"
    assert not any(step["again"] for step in found)


async def test_a_person_reads_a_table_and_a_page_draws_a_diagram(shop: Shop) -> None:
    order_id = await refused(shop)

    read = await traced(shop, order_id)
    drawn = await traced(shop, order_id, "--mermaid")

    assert all(fact in read.stdout for _, fact in COUPON_REFUSED)
    assert "the client" in read.stdout
    heading = read.stdout.splitlines()[:4]
    assert heading[0] == f"order {order_id}: CANCELED, coupon-unknown"
    time = r"\d{4}-\d\d-\d\d [\d:.]{12} UTC"
    assert re.fullmatch(rf"user u1, placed {time}, ended {time}", heading[1])
    assert heading[2:] == ["asked for 1 x mug, 10 points, coupon no-such-coupon", "won: total 1,000, points 10"]
    rows = [" ".join(line.split()[1:]) for line in read.stdout.splitlines()]
    for shown in (
        "product product.stock.held 1 x mug order.created.pending",
        "product product.reserved 1,000 won in total order.created.pending",
        "point point.used 10 points product.reserved",
        "coupon coupon.use.failed coupon-unknown point.used",
        "point point.refunded 10 points coupon.use.failed",
        "order order.canceled coupon-unknown coupon.use.failed",
    ):
        assert any(row.startswith(shown) for row in rows), read.stdout
    lines = drawn.stdout.splitlines()
    assert lines[0] == "sequenceDiagram"
    assert "    client->>order: request" in lines
    assert "    coupon->>point: coupon.use.failed" in lines
    assert "    Note over point: point.refunded" in lines


async def test_any_order_becomes_a_trace_for_opentelemetry(shop: Shop) -> None:
    order_id = await refused(shop)

    with collector() as taking:
        printed = await traced(shop, order_id, "--otlp", "-")
        sent = await traced(shop, order_id, "--otlp", taking.url)
        slow = await orders(shop, "trace", "--slow", "--since", "1h", "--otlp", OTEL_EXPORTER_OTLP_ENDPOINT=taking.url)
        taking.refuses = 400
        refused_it = await traced(shop, order_id, "--otlp", taking.url)

    assert (printed.returncode, sent.returncode, slow.returncode) == (0, 0, 0), printed.stderr + sent.stderr
    spans = [
        span
        for service in json.loads(printed.stdout)["resourceSpans"]
        for scope in service["scopeSpans"]
        for span in scope["spans"]
    ]
    assert {span["traceId"] for span in spans} == {order_id}
    assert {(span["spanId"], span["parentSpanId"]) for span in spans} == {
        (span.span, span.parent) for span in taking.of(order_id)
    }
    assert Counter(span["name"] for span in spans) == {
        "order": 1,
        "process order.created.pending": 1,
        "process product.reserved": 1,
        "process point.used": 1,
        "process coupon.use.failed": 3,
    }
    assert sent.stdout == f"sent the trace {order_id}: {len(spans)} spans\n"
    assert re.fullmatch(r"sent the slowest 1 of \d+ ended orders: \d+ spans\n", slow.stdout)
    assert (refused_it.returncode, "did not take the spans" in refused_it.stderr) == (3, True)
    assert (await traced(shop, "none", "--otlp", "-")).returncode == 1


async def test_who_owes_what_to_a_canceled_order_is_said_before_its_facts(tmp_path: Path) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="60") as shop:
        await shop.register("mug")
        await shop.charge("u1", 1_000)
        await shop.stop("coupon")
        order_id = (await shop.place([("mug", 1)], points=10)).json()["order_id"]
        assert (await shop.post("order", f"/orders/{order_id}/cancel", user="u1")).status_code == 200
        fence = "waits for coupon_svc to hear order.canceled and to say coupon.use.voided"

        async for _ in attempts("nothing but the fence to be owed"):
            heading = (await traced(shop, order_id)).stdout.partition("\n\n")[0].splitlines()
            if [line for line in heading if line.startswith("waits for ")] == [fence]:
                break
        listed = await orders(shop, "find", "--uncompensated", COLUMNS="200")
        found = json.loads((await orders(shop, "find", "--uncompensated", "--json")).stdout)

        assert heading[0] == f"order {order_id}: CANCELED, customer-canceled; not compensated yet"
        assert listed.stdout.splitlines()[1].endswith("coupon_svc: coupon.use.voided")
        (owed,) = found["owed"][order_id]
        assert (owed["service"], owed["says"]) == ("coupon", "coupon.use.voided")
        await shop.start("coupon")
        assert (await shop.until_ended(order_id))["compensated"]
        again = (await traced(shop, order_id)).stdout
        assert again.startswith(f"order {order_id}: CANCELED, customer-canceled\n")
        assert "waits for" not in again


async def test_what_stands_in_the_stream_again_is_marked(tmp_path: Path) -> None:
    async with open_shop(tmp_path, DUPLICATE_WINDOW_S="0.1") as shop:
        order_id = await refused(shop)
        for record in rows(shop, "order"):
            await publish_again(shop, record)
        await shop.until_quiet()

        found = await steps(shop, order_id)

        again = [step["fact"] for step in found if step["again"]]
        assert again == ["order.created.pending", "order.canceled"]
        assert sorted(step["fact"] for step in found if not step["again"]) == sorted(name for _, name in COUPON_REFUSED)
        assert "order.canceled (again)" in (await traced(shop, order_id)).stdout


async def test_what_an_answer_moved_is_shown_where_it_came_before_its_cause(tmp_path: Path) -> None:
    """As in a stream that the broker lost, if order_svc's relay was the last one to publish it again."""
    async with open_shop(tmp_path) as shop:
        order_id = await refused(shop)
        for name in list(shop.services):
            await shop.stop(name)
        await rewrite_stream(shop, lambda events: sorted(events, key=lambda event: event.fact.startswith("order.")))

        found = await steps(shop, order_id)

        assert found[0]["fact"] == "product.stock.held"
        assert sorted((step["service"], step["fact"]) for step in found) == sorted(COUPON_REFUSED)


async def test_what_is_still_to_come_is_followed(shop: Shop) -> None:
    await shop.register("mug", stock=100)
    order_id = (await shop.place([("mug", 1)])).json()["order_id"]
    following = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "ops.orders", "trace", order_id, "--follow"],
        cwd=ROOT,
        env={**os.environ, **shop.env, "COLUMNS": "160", "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert following.stdout is not None
    shown = following.stdout

    async def until(fact: bytes) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while fact not in await shown.readline():
                assert not shown.at_eof()

    try:
        await until(b"order.confirmed")
        await shop.post("order", f"/orders/{order_id}/cancel", user="u1")
        await until(b"coupon.restored")
        following.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(following.wait(), PATIENCE_S) == 0
    finally:
        if following.returncode is None:
            following.kill()
            await following.wait()


async def test_exit_codes_tell_scripts_what_is_wrong(shop: Shop) -> None:
    unknown, bad = await traced(shop, "no-such-order"), await traced(shop, "two words")
    await shop.kill("nats")
    away = await traced(shop, "no-such-order")

    assert [unknown.returncode, bad.returncode, away.returncode] == [1, 2, 3]
    assert unknown.stderr == "the stream has no order no-such-order\n"
    assert "ORDER_ID" in bad.stderr
    assert "just up" in away.stderr


def test_compensations_are_red() -> None:
    def step(fact: str, *, again: bool = False) -> TraceLine:
        return TraceLine(1, 0.0, "point", fact, "account-u1@1", None, again)

    assert [style(step(fact)) for fact in ("point.refunded", "product.released")] == ["red", "red"]
    assert style(step("point.used")) == ""
    assert style(step("point.refunded", again=True)) == "dim"
    assert table([step("point.refunded")]).rows[0].style == "red"


@pytest.mark.parametrize("again", [False, True])
def test_a_diagram_draws_a_repeated_fact_once(again: bool) -> None:
    first = TraceLine(1, 0.0, "order", "order.created.pending", "order-o1@1", None, False)

    assert mermaid([first, first._replace(sequence=2, again=again)]).count("Note over") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(b'"some-stream@7"', b'"\xff"', id="no UTF-8"),
        pytest.param(b'"some-stream@7"', b"7", id="no text"),
        pytest.param(b'"some-stream@7"', b"[" * 100_000, id="too deep"),
        pytest.param(b'02.125000Z"', b'02.125000"', id="a time without an offset"),
    ],
)
async def test_a_message_that_cannot_be_read_is_a_foreign_one(
    monkeypatch: pytest.MonkeyPatch, field: bytes, value: bytes
) -> None:
    placed, canceled = order_created(), order_canceled("customer-canceled")

    def message(sequence: int, fact: OrderCreatedPending | OrderCanceled, body: bytes) -> reading.Read:
        head = f"{VERSION_LINE}\r\n{STREAM}: {fact.stream}\r\n{VERSION}: {sequence}\r\n{POSITION}: {sequence}\r\n\r\n"
        about = subject(NAMES[type(fact)], encode(fact))
        return reading.Read(sequence, about, f"{fact.stream}@{sequence}", body, head.encode(), 0)

    body = encode(canceled).replace(field, value)
    assert body != encode(canceled)
    messages = [message(1, placed, encode(placed)), message(2, canceled, body)]

    async def read(*_: object, **__: object) -> AsyncIterator[reading.Read]:
        for one in messages:
            yield one

    monkeypatch.setattr(reading, "read", read)
    found = await trace(cast(reading.Stream, None), placed.order_id)

    assert [line.fact for line in found.lines] == ["order.created.pending"]
    assert found.foreign == messages[1:]
