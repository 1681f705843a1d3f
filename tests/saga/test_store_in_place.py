"""A service whose store is deleted, replaced or damaged confirms nothing, says why, and goes on after a rebuild."""

import contextlib
import shutil
from pathlib import Path

import httpx
import pytest

from infra.store.identity import companions
from tests.ops.asking import told
from tests.shop import Shop, attempts, open_shop

EXIT_USAGE = 2


def open_to_others(folder: Path) -> dict[str, str]:
    """Modes of files and folders that others may use, but for the logs that the tests write."""
    return {
        str(path.relative_to(folder)): oct(path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.stat().st_mode & 0o077 and path.suffix != ".log"
    }


async def not_ready(shop: Shop, service: str, why: str) -> None:
    """Returns when the service says this."""
    async for _ in attempts(f"{service}_svc to say {why!r}"):
        with contextlib.suppress(httpx.TransportError):
            answer = await shop.get(service, "/readyz")
            if answer.status_code == 503 and why in answer.text:
                return


async def refuses_to_start(shop: Shop, service: str, why: str) -> None:
    await shop.start(service, ready=False)
    assert await shop.ended(service) == EXIT_USAGE
    assert why in shop.log(service).read_text()


@pytest.mark.parametrize("file", ["events.sqlite", "events.sqlite-wal", "."])
async def test_no_order_is_confirmed_into_a_deleted_store_and_none_that_was_is_lost(tmp_path: Path, file: str) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.5", ORDER_DEADLINE_S="600") as shop:
        await shop.register("mug", stock=100)
        confirmed = [(await shop.place([("mug", 1)], key=f"before{n}")).json()["order_id"] for n in range(10)]
        gone = tmp_path / "order" / file
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()

        answers = [await shop.place([("mug", 1)], key=f"after{n}") for n in range(10)]

        assert {answer.status_code for answer in answers} == {503}
        await not_ready(shop, "order", "just rebuild order")
        assert "recording is stopped" in shop.log("order").read_text()
        await shop.kill("order")
        if file != "events.sqlite-wal":
            await refuses_to_start(shop, "order", "just rebuild order")
        await told(shop, "rebuild", "order", *(["--lose-damaged"] if file == "events.sqlite-wal" else []))
        await shop.start("order")
        for order_id in confirmed:
            assert (await shop.until_ended(order_id))["status"] == "CONFIRMED"
        await shop.until_quiet()
        assert (await told(shop, "audit", "--full"))["verdict"] == "good"


async def test_a_store_put_back_beside_a_left_over_log_is_not_used(tmp_path: Path) -> None:
    async with open_shop(tmp_path, DUPLICATE_WINDOW_S="0.1") as shop:
        await shop.charge("ann", 1)
        await shop.stop("point")
        store = tmp_path / "point" / "events.sqlite"
        backup = tmp_path / "backup"
        shutil.copy(store, backup)
        await shop.start("point")
        await shop.charge("bob", 1)
        await shop.kill("point")
        shutil.copy(backup, store)

        await refuses_to_start(shop, "point", "events.sqlite-wal is not the write-ahead log of events.sqlite beside it")

        companions(store)[0].unlink()
        await shop.start("point", ready=False)  # as it says; the store now lacks what the stream has
        await not_ready(shop, "point", "just rebuild point")
        await shop.stop("point")
        await told(shop, "rebuild", "point")
        await shop.start("point")
        assert [await shop.balance(user) for user in ("ann", "bob")] == [1, 1]


async def test_the_store_of_another_service_is_not_used_when_the_stream_is_new(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.charge("ann", 1)
        for name in ("point", "coupon", "nats"):
            await shop.stop(name)
        shop.lose_stream()
        shutil.copy(tmp_path / "point" / "events.sqlite", tmp_path / "coupon" / "events.sqlite")
        await shop.start_nats()

        await refuses_to_start(shop, "coupon", "is the store of point_svc")


async def test_what_customers_did_is_for_the_owner_alone(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.register("mug")
        await shop.charge("ann", 1)
        await shop.place([("mug", 1)], points=1, user="ann")
        await shop.until_quiet()
        await told(shop, "audit")

    assert open_to_others(tmp_path) == {}
