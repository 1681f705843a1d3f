"""The export beside the real shop: whatever its receiver does, orders end as they should, and each is exported once."""

import asyncio
import json
from collections import Counter
from pathlib import Path

from tests.infra.export.commands import command, exporting
from tests.infra.export.orders import environment, exported, logged, plain
from tests.infra.export.receiver import DROP, HANG, Answer, Receiver
from tests.saga.rush import Rush
from tests.shop import Shop, attempts, background, open_shop


async def cancel_the_first(shop: Shop, rush: Rush) -> None:
    """The first customer, whose order was confirmed, changes their mind."""
    first = rush.placed[0]
    assert first.kind == "fine"
    (await shop.post("order", f"/orders/{first.order_id}/cancel", user="customer0")).raise_for_status()
    assert (await shop.until_ended(first.order_id, "customer0"))["status"] == "CANCELED"


FAULTS = (Answer(500), HANG, Answer(429, "0"), DROP, Answer(400))


async def test_orders_flow_while_the_receiver_fails_and_arrive_once_when_it_is_back(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with open_shop(tmp_path) as shop:
        receiver.faults.extend(FAULTS * 1_000)
        env = shop.env | environment(
            tmp_path,
            EXPORT_SINK="http",
            EXPORT_HTTP_URL=receiver.url,
            EXPORT_HTTP_ROWS="7",
            EXPORT_HTTP_AGE_S="0.05",
            EXPORT_HTTP_TIMEOUT_S="0.3",
            EXPORT_PAUSE_S="0.1",
        )
        with exporting(env, tmp_path) as export:
            rush = Rush(shop, 60)
            await rush.prepare()
            await rush.place()
            await rush.assert_settled()
            async for _ in attempts("every fault to be met"):
                if len(receiver.batches) >= len(FAULTS):
                    break
            behind = json.loads((await command(env, "status", "--json")).stdout)
            assert behind["position"] == 0  # not one batch was acknowledged
            assert behind["lag_records"] > 0

            receiver.faults.clear()
            await cancel_the_first(shop, rush)
            rows = [row.fact_id for row in await logged(tmp_path)]
            async for _ in attempts("every end to arrive"):
                if len(receiver.rows) == len(rows):
                    break
            export.process.terminate()
            assert await export.ended() == 0

        assert list(receiver.rows) == rows
        ends = Counter(row["kind"] for row in receiver.rows.values())
        assert ends == {"confirmed": 30, "canceled": 30, "correction": 1}


async def test_order_svc_comes_and_goes_and_the_files_have_every_end_once(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        env = shop.env | environment(tmp_path, EXPORT_FILE_AGE_S="0.05")
        with exporting(env, tmp_path) as export:
            rush = Rush(shop, 60)
            await rush.prepare()
            async with background(rush.place()):
                async for _ in attempts("the first files"):
                    if exported(tmp_path):
                        break
                await shop.kill("order")
                await shop.start("order")
            await rush.assert_settled()
            assert await shop.stop("order") == 0
            await shop.start("order")
            await cancel_the_first(shop, rush)
            rows = plain(await logged(tmp_path))
            async for _ in attempts("every end in the files"):
                if len(await asyncio.to_thread(exported, tmp_path)) == len(rows):
                    break
            export.process.terminate()
            assert await export.ended() == 0

        assert exported(tmp_path) == rows
        assert (await command(env, "reconcile")).code == 0
