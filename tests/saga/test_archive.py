"""Sealed generations leave the broker for the archive: proven first, and then read with the stream as one history."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.broker.numbering import generation_of, number_of
from ops.invariants import Message, check
from tests.ops.asking import orders, told
from tests.saga.test_roll_over import jetstream, place, roll_over
from tests.shop import Shop, attempts, generations, open_shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        await opened.register("mug", stock=1_000)
        await opened.charge("u1", 1_000)
        yield opened


async def next_generation(shop: Shop, key: str) -> str:
    """Place an order, roll over, wait until all services have moved and heard all; return the order's id."""
    placed = await place(shop, key)
    await shop.until_quiet()
    await roll_over(shop)
    async with jetstream(shop) as js:
        newest = number_of((await generations(js))[-1])
    async for n in counted(attempts("the services to move")):
        await place(shop, f"{key}-moved{n}")
        if generation_of((await shop.events())[-1].sequence) == newest:
            break
    await shop.until_quiet()
    return str(json.loads(placed.text)["order_id"])


async def counted(attempts: AsyncIterator[None]) -> AsyncIterator[int]:
    n = 0
    async for _ in attempts:
        yield n
        n += 1


async def streams(shop: Shop) -> list[str]:
    async with jetstream(shop) as js:
        return await generations(js)


async def history(shop: Shop) -> list[dict[str, Any]]:
    """All messages as `orders replay` prints them."""
    done = await orders(shop, "replay")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def until_looked(shop: Shop, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Wait until all services have found one more generation; no archived one ended a session. Return all messages."""
    await next_generation(shop, "looked")
    async with jetstream(shop) as js:
        newest = number_of((await generations(js))[-1])
    async for n in counted(attempts("all services to publish into the newest generation")):
        said = {
            event.fact.partition(".")[0] for event in await shop.events() if generation_of(event.sequence) == newest
        }
        if said >= set(shop.services):
            break
        await place(shop, f"looking{n}")
    assert lost_sessions(shop) == []
    await shop.until_quiet()
    after = await history(shop)
    assert after[: len(before)] == before
    return after


def lost_sessions(shop: Shop) -> list[str]:
    """The lines in which services say that a session ended, but for a refusal by a stream that was sealed."""
    lines = [line for service in shop.services for line in shop.log(service).read_text().splitlines()]
    lost = [line for line in lines if "session with the broker ended" in line or "a view lost the stream" in line]
    return [line for line in lost if "invalid operation on sealed stream" not in line]


async def clean(shop: Shop) -> None:
    await shop.until_quiet()
    logs, _ = await shop.copies()
    messages = [Message(*[one["sequence"], one["headers"]["Nats-Msg-Id"], b""]) for one in await history(shop)]
    assert len({one.fact_id for one in messages}) == len(messages) == sum(map(len, logs.values()))
    assert (await told(shop, "audit", "--at-rest", "--full"))["verdict"] == "good"


async def published_nothing_archived(shop: Shop, before: list[dict[str, Any]]) -> None:
    """Returns if the broker, which lost all streams, has generation 1 alone, and history has each message once."""
    assert await streams(shop) == ["EVENTS_1"]
    after = await history(shop)
    assert {one["headers"]["Nats-Msg-Id"] for one in after} == {one["headers"]["Nats-Msg-Id"] for one in before}
    assert len(after) == len(before)
    assert {generation_of(event.sequence) for event in await shop.events()} == {1}
    await clean(shop)


async def test_every_tool_reads_archive_and_stream_as_one_history(shop: Shop) -> None:
    first = await next_generation(shop, "k0")
    second = await next_generation(shop, "k1")
    before = await history(shop)
    assert (await told(shop, "audit", "--at-rest"))["verdict"] == "good"

    done = await told(shop, "archive")

    assert (done["kept"], done["deleted"]) == ({}, ["EVENTS", "EVENTS_1"])
    assert await streams(shop) == ["EVENTS_2"]
    before = await until_looked(shop, before)
    rows = await told(shop, "stream", "ls")
    assert [row["archived"] for row in rows] == [True, True, False, False]
    assert "archived" in (await orders(shop, "stream", "ls")).stdout
    assert await history(shop) == before
    for order_id in (first, second):
        lines = await told(shop, "trace", order_id)
        assert [line["fact"] for line in lines][-1] == "order.confirmed"
        view = await shop.order(order_id)
        assert len(view["steps"]) == 5
    assert (await told(shop, "audit", "--at-rest"))["verdict"] == "good"  # goes on from the one before
    await clean(shop)
    assert (await place(shop, "k2")).status_code == 200

    await shop.stop("point")
    assert (await told(shop, "rebuild", "point"))["lost"] == 0
    await shop.start("point")
    await shop.stop("product")
    await shop.start("product")
    await clean(shop)
    assert check((await shop.copies())[0], [], quiet=False) is not None


async def test_nothing_archived_is_published_again_after_the_broker_lost_everything(shop: Shop) -> None:
    await next_generation(shop, "k0")
    await told(shop, "archive")
    before = await history(shop)
    for name in [*shop.services, "nats"]:
        await shop.stop(name)
    shop.lose_stream()

    await shop.start_nats()
    await shop.start()
    await shop.until_quiet()

    await published_nothing_archived(shop, before)


async def test_orders_are_taken_while_generations_are_archived(shop: Shop) -> None:
    """The labels change the stream that takes what is published; no session ends, and nothing is refused."""
    await shop.charge("u1", 1_000_000, key="much")
    await shop.register("cup", stock=1_000_000)
    for n in range(3):
        await next_generation(shop, f"k{n}")
    done = asyncio.Event()

    async def load(client: int) -> list[int]:
        answers: list[int] = []
        while not done.is_set():
            placed = await shop.place([("cup", 1)], points=10, key=f"load-{client}-{len(answers)}")
            answers.append(placed.status_code)
        return answers

    clients = [asyncio.create_task(load(n)) for n in range(8)]
    archived = await told(shop, "archive")
    done.set()
    answers = [answer for answers in await asyncio.gather(*clients) for answer in answers]

    assert archived["deleted"] == ["EVENTS", "EVENTS_1", "EVENTS_2"]
    assert (set(answers), len(answers) > 20) == ({200}, True)
    assert lost_sessions(shop) == []
    await clean(shop)


async def test_a_store_that_lacks_what_is_archived_stops_its_service(shop: Shop) -> None:
    await next_generation(shop, "k0")
    await told(shop, "archive")
    await shop.stop("coupon")
    for name in ("coupon", "coupon.identity"):
        path = shop.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    await shop.start("coupon", ready=False)

    async for _ in attempts("coupon_svc to say why it is not ready"):
        with contextlib.suppress(httpx.TransportError):
            said = (await shop.get("coupon", "/readyz")).text
            if "the archive has " in said:
                break
    assert "rebuild the store from archive and stream (just rebuild coupon)" in said


async def test_without_the_archive_nothing_is_read_or_published_until_it_is_back_or_given_up(shop: Shop) -> None:
    """As where a file system is not mounted, or on another machine."""
    await next_generation(shop, "k0")
    await told(shop, "archive")
    before = await history(shop)
    for name in shop.services:
        await shop.stop(name)
    away = (shop.folder / "archive").rename(shop.folder / "away")

    await shop.start("coupon", ready=False)

    assert "EVENTS is archived, but the archive" in await not_ready(shop, "coupon")
    for command in (["replay"], ["audit"], ["stream", "ls"], ["archive"], ["rebuild", "point"], ["backup", "b"]):
        done = await orders(shop, *command)
        assert (done.returncode, "EVENTS is archived, but the archive" in done.stderr) == (3, True), command
    shutil.rmtree(shop.folder / "archive", ignore_errors=True)  # the command's lock is in it
    away.rename(shop.folder / "archive")
    async for _ in attempts("coupon_svc to go on"):
        if (await shop.get("coupon", "/readyz")).status_code == 200:
            break
    assert await history(shop) == before

    await shop.stop("coupon")
    (shop.folder / "archive").rename(away)
    assert (await orders(shop, "archive", "--lost")).returncode == 0
    await shop.start()
    await shop.until_quiet()
    assert {one["headers"]["Nats-Msg-Id"] for one in await history(shop)} == {
        one["headers"]["Nats-Msg-Id"] for one in before
    }
    assert (await told(shop, "audit", "--at-rest", "--full"))["verdict"] == "good"


async def not_ready(shop: Shop, service: str) -> str:
    """Wait until a session of the service has failed; return why it is not ready."""
    async for _ in attempts(f"{service}_svc to say why it is not ready"):
        with contextlib.suppress(httpx.TransportError):
            answer = await shop.get(service, "/readyz")
            if answer.status_code == 200 or "not connected yet" not in answer.text:
                break
    return answer.text


async def test_a_rebuilt_read_model_reads_the_archive_first(shop: Shop) -> None:
    await next_generation(shop, "k0")
    async for _ in attempts("the list of popular products"):
        popular = (await shop.get("product", "/products/popular")).json()
        if popular["products"]:
            break
    await told(shop, "archive")

    done = await orders(shop, "rebuild", "popular")

    assert done.returncode == 0, done.stderr
    assert (await shop.get("product", "/products/popular")).json()["products"] == popular["products"]


@pytest.mark.parametrize("open_because", ["an order", "a consumer"])
async def test_a_generation_with_something_open_stays_and_says_why(shop: Shop, open_because: str) -> None:
    await shop.stop("coupon")
    waiting = asyncio.create_task(place(shop, "k0"))
    async with jetstream(shop) as js:
        async for _ in attempts("the order to wait for coupon_svc"):
            if (await js.consumer_info("EVENTS", "coupon-hears-point-used")).num_pending:
                break
        if open_because == "an order":  # as if it had heard it
            await js.reset_consumer("EVENTS", "coupon-hears-point-used", 1_000)
    await roll_over(shop)

    done = await orders(shop, "archive")

    assert done.returncode == 1
    assert ("have not ended" if open_because == "an order" else "coupon-hears-point-used") in done.stdout
    assert await streams(shop) == ["EVENTS", "EVENTS_1"]
    await shop.start("coupon")
    await waiting


async def test_a_backup_has_the_archive_and_restores_it(shop: Shop, tmp_path: Path) -> None:
    await next_generation(shop, "k0")
    await told(shop, "archive")
    before = await history(shop)
    backup = tmp_path / "backup"

    made = await told(shop, "backup", str(backup))

    assert (made["archived"], "EVENTS" in made["streams"]) == (["EVENTS"], False)
    await next_generation(shop, "k1")
    await told(shop, "archive")
    for name in [*shop.services, "nats"]:
        await shop.stop(name)
    done = await orders(shop, "restore", str(backup), "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in sorted((shop.folder / "archive").glob("*.json"))] == ["EVENTS.json"]
    assert len(list((shop.folder / "archive").glob("replaced-*/EVENTS_1.json"))) == 1
    await shop.start_nats()
    await shop.start()
    await shop.until_quiet()
    assert [one["headers"]["Nats-Msg-Id"] for one in await history(shop)] == [
        one["headers"]["Nats-Msg-Id"] for one in before
    ]
    await clean(shop)

    part = backup / "archive" / "EVENTS" / "part-000.jsonl.gz"
    part.write_bytes(part.read_bytes()[:-1])
    for name in [*shop.services, "nats"]:
        await shop.stop(name)
    refused = await orders(shop, "restore", str(backup), "--yes")
    assert (refused.returncode, "part-000.jsonl.gz has changed" in refused.stderr) == (1, True)


async def test_the_archive_goes_with_all_other_data(shop: Shop) -> None:
    await next_generation(shop, "k0")
    await told(shop, "archive")
    for name in [*shop.services, "nats"]:
        await shop.stop(name)

    assert (await orders(shop, "remove-data", "--yes")).returncode == 0

    assert not (shop.folder / "archive").exists()


async def test_readyz_says_days_before_that_the_broker_will_be_full(tmp_path: Path) -> None:
    async with open_shop(tmp_path, EVENTS_MAX_BYTES=f"{1 << 20}", BROKER_MAX_BYTES=f"{9 << 18}") as shop:
        for n in range(20):
            await shop.charge("u1", 1, key=f"k{n}")
        async for _ in attempts("a warning"):
            answer = await shop.get("order", "/readyz")
            if "the broker takes no more facts in about" in answer.text:
                break

    assert answer.status_code == 200
    assert "(just archive)" in answer.text
