"""The log of real services: what a dead letter says, what clients can cause, and a reader that never reads."""

import asyncio
import fcntl
import json
import os
import re
from pathlib import Path

from infra.local.processes import start_service
from infra.process.log_rate import KINDS_A_WINDOW
from tests.saga.test_dead_letters import say, until_parked
from tests.shop import attempts, open_shop


def full_pipe() -> tuple[int, int]:
    """A pipe into which not one byte more fits: (reading, writing) end."""
    reading, writing = os.pipe()
    flags = fcntl.fcntl(writing, fcntl.F_GETFL)
    fcntl.fcntl(writing, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        for size in (4_096, 1):
            while True:
                os.write(writing, b"x" * size)
    except BlockingIOError:
        pass
    try:
        while True:
            os.write(writing, b"x")
    except BlockingIOError:
        fcntl.fcntl(writing, fcntl.F_SETFL, flags)
    return reading, writing


async def test_a_service_whose_standard_error_nobody_reads_serves_orders_and_stops(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.register("mug")
        await shop.stop("order")
        reading, writing = full_pipe()
        try:
            shop.processes["order"] = start_service("order", shop.env, writing)
            await shop.ready("order")

            assert (await shop.place([("mug", 1)])).status_code == 200
            assert await shop.stop("order") == 0
        finally:
            os.close(reading)
            os.close(writing)


async def test_a_dead_letter_is_one_line_with_subject_sequence_and_the_next_command(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await say(shop, "product.reserved.nobody", b"\x1b[2J not a fact")
        (letter,) = await until_parked(shop, 1)

        async for _ in attempts("the line"):
            if lines := [line for line in shop.log("point").read_text().splitlines() if "dead-lettered" in line]:
                break
        (line,) = lines
        assert "subject=product.reserved.nobody" in line
        assert f"sequence={letter.origin.sequence}" in line
        assert f"next='just dlq show {letter.sequence}'" in line
        assert "Traceback" not in shop.log("point").read_text()
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line)


async def test_a_flood_of_messages_that_nobody_can_read_is_a_few_lines(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        before = len(shop.log("point").read_text().splitlines())
        async with shop.broker() as nc:
            js = nc.jetstream()
            for number in range(60):
                await js.publish(f"product.reserved.nobody{number}", b"not a fact")
        await until_parked(shop, 60)

        assert len(shop.log("point").read_text().splitlines()) - before <= 2 * KINDS_A_WINDOW + 4


async def test_no_request_but_an_order_leaves_a_line_in_the_log(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.register("mug")
        before = {name: shop.log(name).read_text() for name in shop.services}
        port = int(shop.env["ORDER_PORT"])
        for raw in (
            b"no http at all\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            b"POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n{",
            b"GET /\x1b[2J HTTP/1.1\r\n\r\n",
        ):
            await _sent(port, raw)
        for path, body in (("/orders", {"lines": "x"}), ("/nothing", {}), ("/orders/x/cancel", {})):
            assert 400 <= (await shop.post("order", path, body, user="u1")).status_code < 500
        assert (await shop.place([("mug", 1)])).status_code == 200
        await shop.until_quiet()

        async for _ in attempts("the line"):
            if "order ended" in shop.log("order").read_text():
                break
        for name in shop.services:
            new = shop.log(name).read_text().removeprefix(before[name]).splitlines()
            assert ["order ended" in line for line in new] == [True] * (name == "order"), name


async def test_each_end_of_an_order_is_a_line_with_its_fact_and_what_led_to_it(tmp_path: Path) -> None:
    """More than LogRate shows of one event: an end is no complaint."""
    async with open_shop(tmp_path, LOG_FORMAT="json") as shop:
        await shop.register("mug", stock=20)
        answers = [await shop.place([("mug", 1)]) for _ in range(KINDS_A_WINDOW + 5)]
        refused = (await shop.place([("none", 1)])).json()["order_id"]
        confirmed = [answer.json()["order_id"] for answer in answers]
        (await shop.post("order", f"/orders/{confirmed[0]}/cancel", user="u1")).raise_for_status()
        assert await shop.stop("order") == 0

        lines = [json.loads(line) for line in shop.log("order").read_text().splitlines()]
        ended = [line for line in lines if line["event"] == "order ended"]
        assert [line["order_id"] for line in ended] == [*confirmed, refused, confirmed[0]]
        assert {line["level"] for line in ended} == {"info"}
        assert {(line["end"], line.get("reason")) for line in ended} == {
            ("confirmed", None),
            ("canceled", "product-unknown"),
            ("canceled", "customer-canceled"),
        }
        assert ended[-2]["fact_id"] == f"order-{refused}@2"
        assert ended[-2]["cause"] == f"reservation-{refused}@1"
        assert (ended[-1]["fact_id"], "cause" in ended[-1]) == (f"order-{confirmed[0]}@3", False)
        assert all(0 <= line["after_ms"] < 60_000 for line in ended)


async def test_a_line_about_a_message_names_its_order_its_fact_and_its_cause(tmp_path: Path) -> None:
    async with open_shop(tmp_path, LOG_FORMAT="json", ORDER_DEADLINE_S="3", ORDER_WAIT_S="0.2") as shop:
        await shop.register("mug")
        await shop.charge("u1", 100)
        shop.env["ALLERGIC_TO"] = '"points":13'
        await shop.stop("point")
        await shop.start("point", wrapper="allergic")
        order_id = (await shop.place([("mug", 1)], points=13)).json()["order_id"]
        await until_parked(shop, 1)
        await shop.stop("point")

        lines = [json.loads(line) for line in shop.log("point").read_text().splitlines()]
        about = [line for line in lines if line["event"] in ("cannot handle a message; trying again", "dead-lettered")]
        assert {line["event"] for line in about} == {"cannot handle a message; trying again", "dead-lettered"}
        for line in about[:2]:
            assert line["order_id"] == order_id
            assert line["fact_id"] == f"reservation-{order_id}@1"
            assert line["cause"] == f"order-{order_id}@1"


async def _sent(port: int, raw: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    writer.write_eof()
    try:
        async with asyncio.timeout(5):
            await reader.read()
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
