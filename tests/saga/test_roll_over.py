"""The stream rolls over under load: no order is refused, no fact is lost, and all tools read one history."""

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from nats.js import JetStreamContext

from infra.broker.generations import find_generations
from infra.broker.numbering import SPAN, generation_of
from infra.broker.rolling import Sealing, roll
from infra.local.processes import start_keeper
from infra.settings import Settings
from ops.audit import cut
from ops.audit.run import Options, audit
from ops.invariants import check
from ops.progress import ProgressLines
from ops.reading import Stream
from tests.ops.asking import orders, told
from tests.shop import Shop, attempts, generations, open_shop

ROLLS = int(os.environ.get("ROLLS", "4"))
"""How often the stream rolls over under load; 20 before an issue is closed."""
CLIENTS = 8


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        await opened.register("mug", stock=1_000_000)
        await opened.charge("u1", 1_000_000)
        yield opened


@contextlib.asynccontextmanager
async def jetstream(shop: Shop) -> AsyncIterator[JetStreamContext]:
    async with shop.broker() as nc:
        yield nc.jetstream()


@contextlib.asynccontextmanager
async def keeper(shop: Shop, **settings: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    with shop.log("keeper").open("ab") as output:
        process = await asyncio.to_thread(start_keeper, {**shop.env, **settings}, output)
    try:
        yield process
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


async def roll_over(shop: Shop, *, seal: bool = True) -> None:
    """Make the next generation, and seal those before at once, however busy they are."""
    async with shop.broker() as nc:
        js = nc.jetstream()
        assert await roll(nc, js, Settings(port=1), "a test") is not None
        if seal:
            await Sealing(0.0).look(js, await find_generations(nc, js), 0.0)


async def place(shop: Shop, key: str) -> httpx.Response:
    return await shop.place([("mug", 1)], points=10, key=key)


async def clean(shop: Shop) -> None:
    """Returns if the audit of all generations finds nothing, and no fact is published twice."""
    await shop.until_quiet()
    logs, messages = await shop.copies()
    assert check(logs, messages, quiet=True) == []
    ids = [message.fact_id for message in messages]
    assert len(ids) == len(set(ids))
    assert (await told(shop, "audit", "--at-rest"))["verdict"] == "good"


async def test_orders_go_on_while_the_stream_rolls_over_again_and_again(shop: Shop) -> None:
    answers: list[httpx.Response] = []
    over = asyncio.Event()

    async def customer(number: int) -> None:
        placed = 0
        while not over.is_set():
            answers.append(await place(shop, f"c{number}-{placed}"))
            placed += 1

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(customer(number))
        async with keeper(shop, EVENTS_ROLL_MESSAGES="150"), jetstream(shop) as js:
            async for _ in attempts(f"{ROLLS} roll-overs", 60 + 20 * ROLLS):
                if len(await generations(js)) > ROLLS:
                    break
        over.set()

    assert {answer.status_code for answer in answers} == {200}, [one.text for one in answers if one.status_code != 200]
    assert {generation_of(event.sequence) for event in await shop.events()} >= set(range(ROLLS))
    await clean(shop)


async def test_services_go_on_though_their_generation_is_sealed_at_once(shop: Shop) -> None:
    for n in range(3):
        assert (await place(shop, f"k{n}")).status_code == 200
        await roll_over(shop)
        async for _ in attempts("an order to end after the roll-over"):
            if (await place(shop, f"after{n}")).status_code == 200:
                break
    await clean(shop)


async def test_a_service_that_was_away_over_two_roll_overs_hears_and_says_all(shop: Shop) -> None:
    await place(shop, "k0")
    await shop.until_quiet()
    await shop.stop("coupon")
    waiting = [asyncio.create_task(place(shop, f"k{n}")) for n in (1, 2, 3)]
    async with jetstream(shop) as js:
        async for _ in attempts("the orders to wait for coupon_svc"):
            if (await js.consumer_info("EVENTS", "coupon-hears-point-used")).num_pending == 3:
                break
    await roll_over(shop)
    async with jetstream(shop) as js:
        await js.publish("l1.mark.it", b"{}")  # so that it is not empty
    await roll_over(shop)
    await shop.start("coupon")
    await asyncio.gather(*waiting)

    assert [(await shop.until_ended(json.loads(one.result().text)["order_id"]))["status"] for one in waiting] == [
        "CONFIRMED"
    ] * 3
    async with jetstream(shop) as js:
        assert await generations(js) == ["EVENTS", "EVENTS_1", "EVENTS_2"]
    used = [event.sequence for event in await shop.events() if event.subject.startswith("coupon.used.")]
    assert {sequence > 2 * SPAN for sequence in used} == {False, True}


async def test_every_tool_reads_all_generations_as_one_history(shop: Shop) -> None:
    first = json.loads((await place(shop, "k0")).text)["order_id"]
    await shop.until_quiet()
    await roll_over(shop)
    async for _ in attempts("the services to publish into the next generation"):
        second = json.loads((await place(shop, "k1")).text)["order_id"]
        if generation_of((await shop.events())[-1].sequence) == 1:
            break
    await shop.until_quiet()

    for order_id in (first, second):
        lines = await told(shop, "trace", order_id)
        assert "order.confirmed" in json.dumps(lines)
        assert (await shop.order(order_id))["steps"], "GET /orders looks in all generations"
        assert "CONFIRMED" in json.dumps(await told(shop, "at", "order", order_id))
    await clean(shop)
    await roll_over(shop)
    await clean(shop)  # the audit goes on over a new generation
    rows = await told(shop, "stream", "ls")
    assert [(row["stream"], row["sealed"]) for row in rows] == [
        ("EVENTS", True),
        ("EVENTS_1", True),
        ("EVENTS_2", False),
    ]
    replayed = await orders(shop, "replay")
    assert len(replayed.stdout.splitlines()) == len(await shop.events())
    await shop.stop("point")
    rebuilt = await orders(shop, "rebuild", "point")
    assert rebuilt.returncode == 0, rebuilt.stderr
    await shop.start("point")
    assert await shop.balance("u1") == 1_000_000 - 10 * len(
        {e.body["order_id"] for e in await shop.events() if e.fact == "point.used"}
    )


async def test_an_audit_reads_nothing_of_a_generation_that_was_made_after_its_cut(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place(shop, "before")
    await shop.until_quiet()
    take = cut.take

    async def and_roll_over(stream: Stream, logs: cut.ServiceLogs, *, backup: bool) -> cut.Cut:
        made = await take(stream, logs, backup=backup)
        await roll_over(shop)
        async for _ in attempts("a fact in the next generation"):
            await place(shop, f"after{uuid4()}")
            if generation_of((await shop.events())[-1].sequence) == 1:
                break
        await shop.until_quiet()
        return made

    monkeypatch.setattr(cut, "take", and_roll_over)
    report = await audit(
        shop.env, Options(shop.folder / "audit", timedelta(days=1), False, False, None, 0), ProgressLines()
    )

    assert report.findings == []


async def test_an_operator_rolls_over_by_hand(shop: Shop) -> None:
    await place(shop, "k0")
    await shop.until_quiet()

    done = await orders(shop, "stream", "roll")
    again = await orders(shop, "stream", "roll")

    assert done.stdout.startswith("made EVENTS_1 after EVENTS, which has ")
    assert again.stdout == "EVENTS_1 is empty: there is nothing to roll over\n"
    assert "EVENTS_1" in (await orders(shop, "stream", "ls")).stdout


async def test_a_backup_has_all_generations_and_is_restored_with_their_seals(shop: Shop, tmp_path: Path) -> None:
    for n in range(2):
        await place(shop, f"k{n}")
        await shop.until_quiet()
        await roll_over(shop)
        async for _ in attempts("the services to move"):
            await place(shop, f"then{n}")
            if generation_of((await shop.events())[-1].sequence) == n + 1:
                break
    await shop.until_quiet()
    events = await shop.events()
    made = await told(shop, "backup", str(tmp_path / "backup"))
    assert made["streams"].keys() == {"EVENTS", "EVENTS_1", "EVENTS_2", "DEAD"}
    for name in [*shop.services, "nats"]:
        await shop.stop(name)

    done = await orders(shop, "restore", str(tmp_path / "backup"), "--yes")

    assert done.returncode == 0, done.stdout + done.stderr
    await shop.start_nats()
    async with jetstream(shop) as js:
        sealed = [bool((await js.stream_info(name)).config.sealed) for name in await generations(js)]
    assert sealed == [True, True, False]
    assert await shop.events() == events
    await shop.start()
    assert (await place(shop, "after")).status_code == 200
    await clean(shop)
