"""Every value that a service accepts passes through every tool: facts, views, export, audit, at, trace, what-if."""

import asyncio
import json
import string
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts import CouponIssued
from contracts.wire import decode, encode
from infra.export.source import to_row
from infra.local.services import service_names
from infra.store.records import Notification
from ops import at, reading
from ops.trace import as_json, mermaid, table, trace
from order_svc.export import ORDERS
from tests.ops import damage
from tests.ops.asking import orders, told
from tests.shop import Shop

LETTERS = string.ascii_letters + string.digits + "_-"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
ACCEPTED = {200, 201, 202}
REFUSED = {400, 404, 409, 413, 422}


class Batch(NamedTuple):
    """What one customer does: register, charge, be given a coupon, order, and maybe cancel."""

    product_id: str
    name: str
    price: int
    stock: int
    user_id: str
    amount: int
    key: str
    coupon_id: str
    discount: int
    expires_at: str
    lines: int
    quantity: int
    points: int
    cancels: bool


def bounds(least: int, most: int) -> st.SearchStrategy[int]:
    return st.one_of(st.sampled_from([least - 1, least, most, most + 1]), st.integers(least, most))


IDS = st.one_of(st.text(LETTERS, min_size=1, max_size=64), st.sampled_from(["x" * 64, "-", "_" * 64, "x" * 65, "a.b"]))
OFFSETS = st.sampled_from(["Z", "+00:00", "-00:00", "+14:00", "-12:00", "+23:59", "-23:59", "+00:01", "-00:01", ""])
TIMES = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.sampled_from(
        ["0001-01-01T00:00:00", "9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.9999999", "1969-12-31T23:59:59"]
    ),
)
BATCHES = st.builds(
    Batch,
    product_id=IDS,
    name=st.text(max_size=201),
    price=bounds(1, 10**9),
    stock=bounds(0, 10**12),
    user_id=IDS,
    amount=bounds(1, 10**12),
    key=st.text(VISIBLE, min_size=1, max_size=255),
    coupon_id=IDS,
    discount=bounds(1, 10**9),
    expires_at=st.tuples(TIMES, OFFSETS).map("".join),
    lines=st.sampled_from([1, 2, 100, 101]),
    quantity=bounds(1, 1_000),
    points=bounds(0, 10**12),
    cancels=st.booleans(),
)
LARGEST = Batch("p" * 64, "\N{GRINNING FACE}" * 200, 10**9, 10**12, "u" * 64, 10**12, "~" * 255, "c" * 64, 10**9,
                "9999-12-31T23:59:59Z", 100, 1_000, 10**12, cancels=True)  # fmt: skip
WEST = LARGEST._replace(coupon_id="west", user_id="west", expires_at="9999-12-31T23:59:59-01:00")
EAST = LARGEST._replace(coupon_id="east", user_id="east", expires_at="0001-01-01T00:00:00+00:01", lines=1)
ODD = LARGEST._replace(
    product_id="odd", name="\0\x1b[31m[/b]\u202e\u2028", price=1, user_id="-", coupon_id="-", lines=1
)


class Accepted(NamedTuple):
    """The ids that services accepted, and the users of the orders."""

    things: set[tuple[str, str]]
    orders: dict[str, str]


async def do(shop: Shop, batch: Batch, accepted: Accepted) -> None:
    async def ask(kind: str, its_id: str, *request: Any, **headers: Any) -> Any:
        answer = await shop.post(*request, **headers)
        assert answer.status_code in ACCEPTED | REFUSED, (request, answer.text)
        if answer.status_code in ACCEPTED:
            accepted.things.add((kind, its_id))
        return answer

    new = {"product_id": batch.product_id, "name": batch.name, "price": batch.price, "stock": batch.stock}
    await ask("product", batch.product_id, "product", "/products", new)
    await ask(
        "user", batch.user_id, "point", f"/points/{batch.user_id}/charge", {"amount": batch.amount}, key=batch.key
    )
    coupon = {
        "coupon_id": batch.coupon_id,
        "user_id": batch.user_id,
        "discount": batch.discount,
        "expires_at": batch.expires_at,
    }
    issued = await ask("coupon", batch.coupon_id, "coupon", "/coupons", coupon)
    products = [batch.product_id, *(f"{n:064}" for n in range(batch.lines - 1))]
    order = {
        "lines": [{"product_id": product_id, "quantity": batch.quantity} for product_id in products],
        "points": batch.points,
        "coupon_id": batch.coupon_id if issued.status_code in ACCEPTED else None,
    }
    placed = (await shop.post("order", "/orders", order, user=batch.user_id, key=batch.key)).json()
    if "order_id" in placed:
        order_id = placed["order_id"]
        accepted.things.add(("order", order_id))
        accepted.orders[order_id] = batch.user_id
        if batch.cancels:
            await shop.post("order", f"/orders/{order_id}/cancel", user=batch.user_id)


async def fill(shop: Shop) -> Accepted:
    """Send generated extremes; what was accepted of them."""
    for n in range(100):
        await shop.register(f"{n:064}", price=10**9, stock=10**12)
    accepted, loop = Accepted(set(), {}), asyncio.get_running_loop()

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @example(LARGEST)
    @example(WEST)
    @example(EAST)
    @example(ODD)
    @given(BATCHES)
    def send(batch: Batch) -> None:
        asyncio.run_coroutine_threadsafe(do(shop, batch, accepted), loop).result()

    await asyncio.to_thread(send)
    await shop.until_quiet()
    assert {kind for kind, _ in accepted.things} == {"product", "user", "coupon", "order"}
    return accepted


async def audited(shop: Shop, *arguments: str) -> None:
    done = await orders(shop, "audit", "--at-rest", "--json", *arguments)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr


async def test_what_is_accepted_passes_through_every_tool(shop: Shop, tmp_path: Path) -> None:
    accepted = await fill(shop)

    await audited(shop)
    await audited(shop)  # from the checkpoint
    for kind, key in accepted.things:
        then = await at.state_at(shop.env, kind, key)
        assert then is not None
        assert at.lines(then)
        msgspec.json.encode(then._asdict())
    async with reading.stream(shop.env) as stream:
        for order_id in accepted.orders:
            lines, foreign, _ = await trace(stream, order_id)
            assert (bool(lines), foreign) == (True, [])
            assert table(lines)
            assert mermaid(lines)
            assert as_json(lines)
    history = tmp_path / "history.jsonl"
    history.write_text((await orders(shop, "replay")).stdout)
    for source in ([], ["--history", str(history)]):
        assert (await told(shop, "what-if", *source))["differences"] == 0
    assert history.read_bytes().count(b"\n") == len(await shop.events())
    for when in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        for bound in ("--since", "--until"):
            done = await orders(shop, "replay", bound, when)
            assert done.returncode in {0, 1}, done.stderr
            assert "Traceback" not in done.stderr
    refused = await orders(shop, "replay", "--since", "9999-12-31T23:59:59-01:00")
    assert (refused.returncode, "not within the years" in " ".join(refused.stderr.split())) == (2, True)

    # Views and answers
    for order_id, user in accepted.orders.items():
        view = await shop.until_ended(order_id, user)
        assert view["unavailable"] is None
        assert (await shop.get("order", "/orders?limit=200", user=user)).status_code == 200
    for path in ("/products?limit=200", "/products/popular?days=90"):
        assert (await shop.get("product", path)).status_code == 200
    assert (await shop.get("order", "/ops/orders?limit=200")).status_code == 200
    for kind, key in accepted.things:
        if kind == "coupon":
            assert (await shop.get("coupon", f"/coupons/{key}")).json()["expires_at"].endswith("Z")

    # Export
    exported = await orders(shop, "export", "--once")
    assert exported.returncode == 0, exported.stderr
    ended = [row for row in damage.rows(shop, "order") if row.topic in ORDERS.topics]
    files = (shop.folder / "export" / "orders").rglob("*.parquet")
    assert sum(pq.read_table(file).num_rows for file in files) == len(ended)
    for row in ended:
        assert json.loads(msgspec.json.encode(to_row(ORDERS, Notification(*row))))["position"] == row.position
    assert (await orders(shop, "export", "reconcile")).returncode == 0

    # The stores again
    for name in service_names():
        await shop.stop(name)
        assert (await told(shop, "rebuild", name))["lost"] == 0
    await shop.start()
    await shop.until_quiet()
    await audited(shop)


@pytest.mark.parametrize("when", ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+23:59"])
async def test_a_time_that_only_older_code_accepted_breaks_no_tool(shop: Shop, when: str) -> None:
    await shop.register("mug")
    await shop.issue("c1", "u1")
    await shop.until_quiet()
    await shop.stop("coupon")
    issued = damage.row(shop, "coupon.issued")
    old = encode(replace(issued.fact, coupon_id="old")).replace(b"2099-01-01T00:00:00Z", when.encode())
    fact = decode(old)
    assert isinstance(fact, CouponIssued)
    damage.append(shop, fact)
    await shop.start("coupon")
    await shop.until_quiet()

    placed = await shop.place([("mug", 1)], coupon="old")

    assert placed.status_code == (200 if when.startswith("9") else 409)
    await shop.until_quiet()
    await audited(shop)
    await audited(shop)
    assert (await told(shop, "what-if"))["differences"] == 0
    for command in (["at", "coupon", "old"], ["trace", placed.json()["order_id"]], ["replay"], ["export", "--once"]):
        done = await orders(shop, *command)
        assert done.returncode == 0, done.stderr
    assert (await shop.get("coupon", "/coupons/old")).status_code == 200
    await shop.stop("coupon")
    assert (await told(shop, "rebuild", "coupon"))["lost"] == 0
