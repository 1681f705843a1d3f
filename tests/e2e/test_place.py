"""`just place`: one order by hand."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.ports import free_ports
from ops.client import ServiceAnswer
from ops.place import told
from tests.e2e.processes import run
from tests.ops.test_waiting import answer, listening
from tests.shop import Shop, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def place(shop: Shop, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return await run("ops.orders", "place", *arguments, env=shop.env | env)


async def test_a_confirmed_order_exits_0_and_shows_what_is_due(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("mug", price=12_000, stock=10)
    await shop.register("lamp", price=30_000, stock=10)
    await shop.charge("u1", 5_000)
    await shop.issue("c1", "u1", discount=3_000)

    placed = await place(shop, "--user", "u1", "--points", "500", "--coupon", "c1", "--key", "k1", "mug:2", "lamp")

    assert (placed.returncode, placed.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in placed.stdout.splitlines()]
    assert lines[:-1] == [
        "200 CONFIRMED",
        "2 x mug 24,000",
        "1 x lamp 30,000",
        "points -500",
        "coupon c1 -3,000",
        "due, in won 50,500",
    ]
    told_id = lines[-1].removeprefix("what happened to it: just trace ")
    assert (await shop.order(told_id))["status"] == "CONFIRMED"

    again = await place(shop, "--user", "u1", "--points", "500", "--coupon", "c1", "--key", "k1", "mug:2", "lamp")
    assert again.returncode == 0
    assert "the answer to an earlier request with this key" in again.stdout
    assert await shop.available("mug") == 8


async def test_a_canceled_order_exits_1_and_says_why(open_all_day: Shop) -> None:
    placed = await place(open_all_day, "--user", "u1", "no-such-product:1")
    assert placed.returncode == 1
    assert placed.stdout.startswith("409 CANCELED: product-unknown\n  the order names a product that does not exist\n")


async def test_a_refused_request_exits_1_and_says_why(open_all_day: Shop) -> None:
    placed = await place(open_all_day, "--user", "u1", "mug:0")
    assert placed.returncode == 1
    assert placed.stdout.startswith("400 REFUSED: invalid-request\n")
    assert "quantity" in placed.stdout


@pytest.mark.parametrize(
    "arguments", [(), ("--user", "u1"), ("p1:2",), ("--user", "u1", "p1:two"), ("--user", "u1", ":1")]
)
async def test_wrong_usage_exits_2(open_all_day: Shop, arguments: tuple[str, ...]) -> None:
    placed = await place(open_all_day, *arguments)
    assert placed.returncode == 2
    assert placed.stderr.strip().startswith("Usage: just place")


async def test_nobody_there_exits_3_and_tells_what_to_look_at(open_all_day: Shop) -> None:
    (nobody,) = free_ports(1)
    placed = await place(open_all_day, "--user", "u1", "p1:1", ORDER_PORT=str(nobody))
    assert placed.returncode == 3
    assert "cannot be reached" in placed.stderr
    assert "ORDER_PORT and BIND_HOST" in placed.stderr


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable"])
async def test_an_order_that_may_be_placed_all_the_same_is_not_told_as_refused(status: str) -> None:
    body = b'{"type":"/problems/unavailable","detail":"the store cannot be used right now"}'
    async with listening(answer(status, body)) as (port, heard):
        placed = await run("ops.orders", "place", "--user", "u1", "mug", env={**os.environ, "ORDER_PORT": str(port)})

    key = re.search(rb"(?i)^idempotency-key: (.+)\r$", heard[0], re.MULTILINE)
    assert key is not None
    assert placed.returncode == 3
    told = [f"{status[:3]} UNKNOWN whether it is placed: unavailable", "  the store cannot be used right now"]
    assert placed.stdout.splitlines() == told
    assert placed.stderr.endswith(f"repeats it and places no second one: --key {key[1].decode()}\n")


async def test_an_order_is_repeated_by_the_key_that_was_made_for_it(open_all_day: Shop) -> None:
    shop = open_all_day
    await shop.register("bowl", stock=10)
    first = json.loads((await place(shop, "--user", "u1", "--json", "bowl")).stdout)

    again = await place(shop, "--user", "u1", "--key", first["idempotency_key"], "--json", "bowl")

    assert json.loads(again.stdout) == first
    assert await shop.available("bowl") == 9


async def test_it_asks_where_order_svc_listens(tmp_path: Path) -> None:
    async with open_shop(tmp_path, BIND_HOST="127.0.0.2") as shop:
        await shop.register("mug")
        placed = await place(shop, "--user", "u1", "mug:1")

    assert (placed.returncode, placed.stderr) == (0, "")
    assert placed.stdout.startswith("200 CONFIRMED\n")


async def test_settings_that_cannot_be_meant_exit_2(open_all_day: Shop) -> None:
    placed = await place(open_all_day, "--user", "u1", "p1:1", ORDER_PORT="eighty")
    assert (placed.returncode, placed.stdout) == (2, "")
    assert placed.stderr.startswith("ORDER_PORT='eighty' cannot be used")


async def test_an_ipv6_address_is_written_as_urls_write_it(open_all_day: Shop) -> None:
    (nobody,) = free_ports(1)
    placed = await place(open_all_day, "--user", "u1", "p1:1", BIND_HOST="::1", ORDER_PORT=str(nobody))
    assert placed.returncode == 3
    assert placed.stderr.startswith(f"order_svc at http://[::1]:{nobody} cannot be reached")


async def test_somebody_else_there_exits_3_too(open_all_day: Shop) -> None:
    placed = await place(open_all_day, "--user", "u1", "p1:1", ORDER_PORT=open_all_day.env["NATS_PORT"])
    assert placed.returncode == 3
    assert "does not answer as a service does" in placed.stderr


async def test_a_pending_order_is_told_as_such() -> None:
    view: dict[str, object] = {"order_id": "o1", "status": "PENDING", "lines": [], "amount_due": None}
    assert told(ServiceAnswer(202, view, {})) == ["202 PENDING", "  what happened to it: just trace o1"]


async def test_help_teaches() -> None:
    help_text = await run("ops.orders", "place", "--help", env={"PATH": str(sys.path)})
    assert help_text.returncode == 0
    for taught in ("just place --user u1", "Exit code: 0 confirmed", "ORDER_PORT (8001)", "BIND_HOST", "localhost"):
        assert taught in help_text.stdout
