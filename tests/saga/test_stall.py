"""A stall of the broker that is shorter than customers wait refuses nobody, and everybody gets the end of the order."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from order_svc.admission import ALWAYS_ADMITTED
from tests.shop import open_shop

RATE = 100  # orders a second; `just bench` has 400
BEFORE_S, AFTER_S = 1.5, 1.0


@pytest.mark.parametrize("stall_s", [0.5, 2.0])
async def test_nobody_is_refused_and_everybody_gets_the_end(tmp_path: Path, stall_s: float) -> None:
    orders = int(RATE * (BEFORE_S + stall_s + AFTER_S))
    async with open_shop(tmp_path) as shop:
        await shop.register("mug", stock=10 * orders)
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def place(n: int) -> str:
            await asyncio.sleep(began + n / RATE - loop.time())
            answer = await shop.place([("mug", 1)], key=f"k{n}", user=f"u{n}")
            return "the end" if answer.status_code == 200 else answer.text

        async def stall() -> None:
            await asyncio.sleep(BEFORE_S)
            shop.processes["nats"].send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(stall_s)
            finally:
                shop.processes["nats"].send_signal(signal.SIGCONT)

        # More at once than are always admitted, so that the completion rate is known before the stall.
        burst = [shop.place([("mug", 1)], key=f"b{n}") for n in range(2 * ALWAYS_ADMITTED)]
        placed, first, _ = await asyncio.gather(
            asyncio.gather(*map(place, range(orders))), asyncio.gather(*burst), stall()
        )

        assert Counter(placed) == {"the end": orders}
        assert {answer.status_code for answer in first} == {200}
        await shop.until_quiet()
