"""A service whose store does not match the stream stops consuming, writing and publishing, and says why."""

import asyncio
import contextlib
import shutil
from pathlib import Path

import httpx

from tests.saga.rush import Rush
from tests.shop import attempts, logged, open_shop


async def test_a_lost_store_stays_silent_until_it_is_back(tmp_path: Path) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="600") as shop:
        rush = Rush(shop, 24)
        await rush.prepare()
        await rush.place(range(12))
        await shop.until_quiet()
        before = await shop.events()
        await shop.stop("product")
        shutil.move(tmp_path / "product", tmp_path / "aside")
        (tmp_path / "product.identity").unlink()  # as on another machine: only the stream knows that there was a store
        await shop.start("product", ready=False)
        await rush.place(range(12, 24))

        async for _ in attempts("product_svc to say what is wrong"):
            with contextlib.suppress(httpx.TransportError):
                answer = await shop.get("product", "/readyz")
                if answer.status_code == 503 and "just rebuild product" in answer.text:
                    break
        body = {"product_id": "new", "name": "New", "price": 1, "stock": 1}
        refused = await shop.post("product", "/products", body)
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
        assert logged(tmp_path, "product") == 0
        said = [event for event in (await shop.events())[len(before) :] if event.subject.startswith("product.")]
        assert said == []

        await shop.stop("product")
        await asyncio.to_thread(shutil.rmtree, tmp_path / "product")
        shutil.move(tmp_path / "aside", tmp_path / "product")
        (tmp_path / "product.identity").unlink()
        await shop.start("product")
        await rush.assert_settled()
