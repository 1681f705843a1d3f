"""The broker is killed, loses its store or is away: every accepted order still ends, and the stream equals the logs."""

import asyncio
import shutil
from pathlib import Path

from infra.local.services import service_names
from tests.saga.rush import STOCK, Rush
from tests.shop import Shop, attempts, background, logged, open_shop


async def some_recorded(shop: Shop, more: int) -> None:
    """Returns when order_svc's log has grown by `more` records."""
    start = logged(shop.folder, "order")
    async for _ in attempts("orders to come in"):
        if logged(shop.folder, "order") >= start + more:
            return


async def test_killed_and_restarted_under_load(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        rush = Rush(shop, 600)
        await rush.prepare()
        async with background(rush.place()):
            for _ in range(3):
                await some_recorded(shop, 100)
                await shop.kill("nats")
                await shop.start_nats()
        await rush.assert_settled()


async def test_its_store_deleted_under_load(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        rush = Rush(shop, 600)
        await rush.prepare()
        async with background(rush.place()):
            await some_recorded(shop, 300)
            await shop.kill("nats")
            shop.lose_stream()
            await shop.start_nats()
        await rush.assert_settled()


async def test_without_a_broker_orders_are_turned_away_before_anything_is_recorded(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.register("mug")
        done = (await shop.place([("mug", 1)], key="before")).json()["order_id"]
        await shop.kill("nats")
        async for _ in attempts("the door to close"):
            if (await shop.place([("mug", 1)])).status_code == 503:
                break
        before = logged(shop.folder, "order")

        answer = await shop.place([("mug", 1)])

        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["type"] == "/problems/unavailable"
        assert logged(shop.folder, "order") == before
        # What was answered before is still answered, and an order is still shown, without what only the stream knows.
        again = await shop.place([("mug", 1)], key="before")
        assert (again.status_code, again.json()["order_id"]) == (200, done)
        view = await shop.order(done)
        assert (view["status"], view["steps"], view["compensated"]) == ("CONFIRMED", None, None)
        assert "broker" in view["unavailable"]
        for name in service_names():
            assert (await shop.get(name, "/healthz")).status_code == 200
            assert (await shop.get(name, "/readyz")).status_code == 503

        await shop.start_nats()
        await shop.ready()
        assert (await shop.place([("mug", 1)])).status_code == 200


async def test_a_full_stream_closes_the_door_and_loses_nothing(tmp_path: Path) -> None:
    async with open_shop(tmp_path, EVENTS_MAX_BYTES=str(1 << 20)) as shop:
        await shop.register("mug", stock=1_000_000)
        codes: set[int] = set()
        placed: list[str] = []
        async for _ in attempts("the stream to fill up"):
            answers = await asyncio.gather(*(shop.place([("mug", 1)]) for _ in range(100)))
            codes |= {answer.status_code for answer in answers}
            placed += [answer.json()["order_id"] for answer in answers if answer.status_code in (200, 202)]
            if 503 in codes:
                break
        assert codes <= {200, 202, 503}
        before = logged(shop.folder, "order")
        assert (await shop.place([("mug", 1)])).status_code == 503
        assert logged(shop.folder, "order") == before

        async with shop.broker() as client:
            js = client.jetstream()
            config = (await js.stream_info("EVENTS")).config
            config.max_bytes = 1 << 30
            await js.update_stream(config)
        for order_id in placed:
            assert (await shop.until_ended(order_id))["status"] == "CONFIRMED"
        await shop.until_quiet()
        assert await shop.available("mug") == 1_000_000 - len(placed)
        assert (await shop.place([("mug", 1)])).status_code == 200


async def test_its_tail_lost_while_consumers_remember_it(tmp_path: Path) -> None:
    """What was lost is written again elsewhere; a consumer that believes it heard those places must not skip them."""
    async with open_shop(tmp_path, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="600") as shop:
        messages = tmp_path / "nats" / "jetstream" / "$G" / "streams" / "EVENTS" / "msgs"
        rush = Rush(shop, 240)
        await rush.prepare()
        await rush.place(range(60))
        await shop.until_quiet()
        await shop.stop("nats")
        shutil.copytree(messages, tmp_path / "older")
        await shop.start_nats()
        await shop.ready()
        await rush.place(range(60, 180))
        await shop.until_quiet()
        await shop.stop("product")
        await rush.place(range(180, 240))
        await shop.kill("nats")
        shutil.rmtree(messages)
        shutil.copytree(tmp_path / "older", messages)

        await shop.start_nats()
        await shop.ready("order", "point", "coupon")
        await shop.start("product")

        await rush.assert_settled()


async def test_a_broker_that_hangs_makes_nobody_wait(tmp_path: Path) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.3", ORDER_DEADLINE_S="600") as shop:
        await shop.register("mug", stock=1_000)
        accepted: list[str] = []
        async with shop.paused("nats"):
            async for _ in attempts("the door to close"):
                answer = await shop.place([("mug", 1)])
                if answer.status_code == 503:
                    break
                assert answer.status_code == 202
                accepted.append(answer.json()["order_id"])
            view = await shop.order(accepted[0])
            assert (view["status"], view["steps"]) == ("PENDING", None)

        for order_id in accepted:
            assert (await shop.until_ended(order_id))["status"] == "CONFIRMED"
        await shop.until_quiet()
        assert await shop.available("mug") == 1_000 - len(accepted)


async def test_the_stream_replaced_while_everything_runs(tmp_path: Path) -> None:
    """Somebody deletes and remakes it; the broker never goes away. All of every log is written into the new one."""
    async with open_shop(tmp_path) as shop:
        rush = Rush(shop, 300)
        await rush.prepare()
        await rush.place(range(200))
        await shop.until_quiet()
        async with shop.broker() as client:
            js = client.jetstream()
            config = (await js.stream_info("EVENTS")).config
            await js.delete_stream("EVENTS")
            await js.add_stream(config)
        await rush.place(range(200, 300))
        async for _ in attempts("the new stream to have all of the logs"):
            if len({event.fact_id for event in await shop.events()}) == sum(
                logged(tmp_path, name) for name in service_names()
            ):
                break
        await shop.until_quiet()
        await rush.assert_every_invariant_holds()
        fine = sum(placed.kind == "fine" for placed in rush.placed)
        assert await shop.available("plenty") == STOCK - fine
