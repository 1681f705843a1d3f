"""A stall of the broker that is shorter than customers wait refuses nobody, and everybody gets the end of the order."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from order_svc.admission import ALWAYS_ADMITTED
from tests.shop import open_shop

RATE = 100  # orders a second at most; `just bench` has 400
SHARE = 0.3
"""Of the rate at which this machine ends orders now: a busy one must not be the cause of a refusal."""
BURST = 2 * ALWAYS_ADMITTED
BEFORE_S, AFTER_S = 1.5, 1.0


@pytest.mark.parametrize("stall_s", [0.5, 2.0])
async def test_nobody_is_refused_and_everybody_gets_the_end(tmp_path: Path, stall_s: float) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.register("mug", stock=10_000)
        loop = asyncio.get_running_loop()
        # More at once than are always admitted, so that the completion rate is known before the stall.
        began = loop.time()
        first = await asyncio.gather(*(shop.place([("mug", 1)], key=f"b{n}") for n in range(BURST)))
        rate = min(RATE, SHARE * BURST / (loop.time() - began))
        orders = int(rate * (BEFORE_S + stall_s + AFTER_S))
        began = loop.time()

        async def place(n: int) -> str:
            await asyncio.sleep(began + n / rate - loop.time())
            answer = await shop.place([("mug", 1)], key=f"k{n}", user=f"u{n}")
            return "the end" if answer.status_code == 200 else answer.text

        async def stall() -> None:
            await asyncio.sleep(BEFORE_S)
            async with shop.paused("nats"):
                await asyncio.sleep(stall_s)

        placed, _ = await asyncio.gather(asyncio.gather(*map(place, range(orders))), stall())

        assert Counter(placed) == {"the end": orders}
        assert {answer.status_code for answer in first} == {200}
        await shop.until_quiet()
