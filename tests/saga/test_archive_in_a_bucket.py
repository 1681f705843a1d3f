"""The archive in a bucket of a real store: all tools read it, and services run while it is away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.ports import free_ports
from tests.object_store import KEY_ID, SECRET, ObjectStore, object_store
from tests.ops.asking import orders, told
from tests.saga.test_archive import (  # the tests among them run here with this module's shop
    clean,
    history,
    next_generation,
    published_nothing_archived,
    streams,
    test_a_rebuilt_read_model_reads_the_archive_first,  # noqa: F401
    test_every_tool_reads_archive_and_stream_as_one_history,  # noqa: F401
)
from tests.saga.test_roll_over import place
from tests.shop import Shop, attempts, open_shop

AWAY = "the archive's bucket s3://shop-archive/saga/events cannot be used: it takes no connection. Does its store run"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    with object_store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
async def shop(store: ObjectStore, tmp_path: Path) -> AsyncIterator[Shop]:
    settings: dict[str, Any] = store.env
    async with open_shop(tmp_path, **settings) as opened:
        await opened.register("mug", stock=1_000)
        await opened.charge("u1", 1_000)
        yield opened
        logs = [opened.log(name).read_text() for name in opened.services]
        assert not [log for log in logs if SECRET in log or KEY_ID in log]


async def readyz(shop: Shop, service: str) -> httpx.Response | None:
    with contextlib.suppress(httpx.TransportError):
        return await shop.get(service, "/readyz")
    return None


async def until_it_says(shop: Shop, text: str) -> None:
    """Wait until no service is ready, each because of this."""
    for service in shop.services:
        async for _ in attempts(f"{service}_svc to say: {text}"):
            answer = await readyz(shop, service)
            if answer is not None and answer.status_code == 503 and text in answer.text:
                break


async def until_it_warns(shop: Shop, warns: bool) -> None:
    """Wait until order_svc, which is ready, warns that the bucket is away, or does so no more."""
    async for _ in attempts(f"order_svc to warn of the bucket: {warns}"):
        answer = await shop.get("order", "/readyz")
        if answer.status_code == 200 and any(AWAY in text for text in answer.json()["warnings"]) == warns:
            break


async def test_services_run_while_the_bucket_is_away_and_say_what_they_cannot_tell(
    shop: Shop, store: ObjectStore
) -> None:
    archived = await next_generation(shop, "k0")
    await told(shop, "archive")
    await next_generation(shop, "k1")  # all have found out that EVENTS is archived
    before = await history(shop)
    store.stop()

    assert (await place(shop, "away")).status_code == 200
    assert "steps and compensated: the archive's bucket" in (await shop.order(archived))["unavailable"]
    done = await orders(shop, "replay")
    assert (done.returncode, AWAY in " ".join(done.stderr.split())) == (3, True)
    await until_it_warns(shop, True)

    await shop.kill("nats")
    await shop.start_nats()
    await shop.until_quiet()
    assert (await place(shop, "away-too")).status_code == 200  # in new sessions, without the bucket
    await shop.until_quiet()

    await shop.stop("point")
    await shop.start("point", ready=False)
    async for _ in attempts("point_svc to say what it waits for"):
        answer = await readyz(shop, "point")
        if answer is not None and AWAY in answer.text:
            break
    assert "the archive cannot be used" in shop.log("point").read_text()
    store.start()
    await shop.ready("point")
    assert len((await shop.order(archived))["steps"]) == 5
    assert (await history(shop))[: len(before)] == before
    await until_it_warns(shop, False)
    await clean(shop)


async def test_after_the_loss_of_all_streams_nothing_is_published_before_the_bucket_is_back(
    shop: Shop, store: ObjectStore
) -> None:
    await next_generation(shop, "k0")
    await told(shop, "archive")
    before = await history(shop)
    for name in [*shop.services, "nats"]:
        await shop.stop(name)
    shop.lose_stream()
    store.stop()

    await shop.start_nats()
    await shop.start(ready=False)
    await until_it_says(shop, AWAY)
    assert await streams(shop) == []

    store.start()
    await shop.ready()
    await shop.until_quiet()
    await published_nothing_archived(shop, before)


async def test_backup_restore_and_removal_leave_the_bucket_as_it_is(
    shop: Shop, store: ObjectStore, tmp_path: Path
) -> None:
    await next_generation(shop, "k0")
    await told(shop, "archive")
    before, objects = await history(shop), store.files()
    backup = tmp_path / "backup"

    made = await told(shop, "backup", str(backup))

    assert (made["archived"], made["bucket"]) == (["EVENTS"], store.env["ARCHIVE_URL"])
    assert [str(path.relative_to(backup)) for path in backup.glob("archive/**/*")] == ["archive/EVENTS.json"]
    for name in [*shop.services, "nats"]:
        await shop.stop(name)
    done = await orders(shop, "restore", str(backup), "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert store.files() == objects
    await shop.start_nats()
    await shop.start()
    await shop.until_quiet()
    assert [one["headers"]["Nats-Msg-Id"] for one in await history(shop)] == [
        one["headers"]["Nats-Msg-Id"] for one in before
    ]

    await next_generation(shop, "k1")
    await told(shop, "archive")
    for name in [*shop.services, "nats"]:
        await shop.stop(name)
    refused = await orders(shop, "restore", str(backup), "--yes")
    assert refused.returncode == 2
    said = " ".join(refused.stderr.split())
    assert "is not that of the backup, which ends with EVENTS. Nothing was replaced. Copy it as it was" in said
    other = f"{store.env['ARCHIVE_URL']}-as-it-was"
    assert (await orders(shop, "archive", "--copy-to", other, "--through", "EVENTS")).returncode == 0
    shop.env["ARCHIVE_URL"] = other
    assert (await orders(shop, "restore", str(backup), "--yes")).returncode == 0

    objects = store.files()
    removed = await orders(shop, "remove-data", "--yes")
    assert f"the archive in {other} stays: for a new system set ARCHIVE_URL to another prefix" in removed.stdout
    assert (store.files(), (shop.folder / "archive-cache").exists()) == (objects, False)


async def test_a_service_whose_credentials_are_refused_waits_and_says_so(shop: Shop, store: ObjectStore) -> None:
    await shop.stop("coupon")
    shop.env["AWS_SECRET_ACCESS_KEY"] = "another-secret"
    await shop.start("coupon", ready=False)
    async for _ in attempts("coupon_svc to say that its credentials are refused"):
        answer = await readyz(shop, "coupon")
        if answer is not None and "403 SignatureDoesNotMatch. Check its credentials" in answer.text:
            assert "another-secret" not in answer.text + shop.log("coupon").read_text()
            break

    await shop.stop("coupon")
    shop.env["AWS_SECRET_ACCESS_KEY"] = SECRET
    await shop.start("coupon")
    assert (await place(shop, "k0")).status_code == 200


@contextlib.asynccontextmanager
async def way_to(endpoint: str, port: int) -> AsyncIterator[None]:
    """Pass what comes to this port on to the store, until the block ends."""
    store_port = int(endpoint.rpartition(":")[2])

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while content := await reader.read(1 << 16):
                writer.write(content)
                await writer.drain()
        writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_connection("127.0.0.1", store_port)
        await asyncio.gather(copy(reader, to_store), copy(from_store, writer))

    async with await asyncio.start_server(pass_on, "127.0.0.1", port):
        yield


async def test_services_that_cannot_see_the_bucket_wait_when_a_generation_leaves_the_broker(
    shop: Shop, store: ObjectStore
) -> None:
    """The archiver still sees it. For them, an archived generation and a lost one look alike."""
    (port,) = free_ports(1)
    for name in shop.services:
        await shop.stop(name)
    shop.env["ARCHIVE_ENDPOINT"] = f"http://127.0.0.1:{port}"
    async with way_to(store.env["ARCHIVE_ENDPOINT"], port):
        await shop.start()
        await next_generation(shop, "k0")
        before = await history(shop)

    await told(shop, "archive", ARCHIVE_ENDPOINT=store.env["ARCHIVE_ENDPOINT"])

    await until_it_says(shop, AWAY)
    async with way_to(store.env["ARCHIVE_ENDPOINT"], port):
        await shop.ready()
        assert (await place(shop, "k1")).status_code == 200
        await shop.until_quiet()
        assert (await history(shop))[: len(before)] == before
        await clean(shop)
