"""`python -m tests.browser.pictures`: pictures of the dashboard for people to look at, and what it costs, measured.

It opens a shop of its own, places orders (--orders 10000), and visits pages in a browser. It prints when each page was
painted first, and how much of a core the dashboard takes at rest and with viewers; nothing is judged.
"""

import argparse
import asyncio
import base64
import tempfile
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Final

import psutil

from infra.local.services import ROOT
from tests.browser.chromium import Chromium, chromium
from tests.browser.test_dashboard import SEEN, resize
from tests.ops.boards import Board
from tests.shop import Shop, attempts, open_shop

FOLDER: Final = ROOT / "docs" / "pictures"
WIDTH: Final = 1_100
AT_ONCE: Final = 32
MEASURED_S: Final = 20.0
QUALITY: Final = 70
PAINTED: Final = (
    "new Promise(r => new PerformanceObserver(l => r(l.getEntries()[0].startTime))"
    ".observe({type: 'paint', buffered: true}))"
)


async def main(orders: int, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as data:
        async with AsyncExitStack() as stack:
            shop = await stack.enter_async_context(open_shop(Path(data), ORDER_WAIT_S="0.5"))
            browser = await stack.enter_async_context(chromium(Path(data) / "profile"))
            board = Board(shop)
            await board.start()
            await _stock(shop, orders)
            loading = asyncio.create_task(_load(shop, orders))
            await _points(board, 12)
            await _picture(browser, f"{board.url}/", folder / "dashboard", 1_020)
            await loading
            good = (await shop.place([("mug", 2)], points=500, coupon="c1")).json()["order_id"]
            bad = (await shop.place([("mug", 2)], points=500, coupon="c1")).json()["order_id"]
            await shop.until_ended(bad)
            await _picture(browser, f"{board.url}/orders/{bad}", folder / "dashboard-order", 900)
            for path in ("/", "/orders", f"/orders/{good}", "/dead-letters"):
                await browser.visit(board.url + path)
                print(f"first paint of {path:<48} {await browser.script(PAINTED):>6.0f} ms, {orders:,} orders")
            await browser.visit("about:blank")
            await _costs(board)
            await shop.kill("point")
            waiting = (await shop.place([("mug", 1)])).json()["order_id"]
            await board.until(f"/orders/{waiting}", "cannot be reached")
            await _picture(browser, f"{board.url}/orders/{waiting}", folder / "dashboard-waits", 760)


async def _stock(shop: Shop, orders: int) -> None:
    await shop.register("mug", price=12_000, stock=orders + 100)
    await shop.charge("u1", 1_000_000)
    await shop.issue("c1", "u1")


async def _load(shop: Shop, orders: int) -> None:
    """Place so many orders; a tenth of them is refused."""
    numbers = iter(range(orders))

    async def place() -> None:
        for number in numbers:
            await shop.place([("mug", 1)], points=10**9 if number % 10 == 0 else number % 3)

    await asyncio.gather(*(place() for _ in range(AT_ONCE)))


async def _points(board: Board, count: int) -> None:
    """Wait until the plots have so many points."""
    async for _ in attempts("the plots to have points", 120):
        plot = (await board.get("/")).text.partition('class="plot"')[2].partition("</svg>")[0]
        if plot.count("L") >= count:
            return


async def _picture(browser: Chromium, url: str, to: Path, height: int) -> None:
    """Write the page, light and dark."""
    await resize(browser, WIDTH, height)
    await browser.visit(url)
    if url.endswith("/"):
        await browser.script(SEEN % "Number(main.dataset.events) >= 1")
    for theme in ("light", "dark"):
        await browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        shot = await browser.call("Page.captureScreenshot", format="webp", quality=QUALITY)
        to.with_name(f"{to.name}-{theme}.webp").write_bytes(base64.b64decode(shot["data"]))


async def _costs(board: Board) -> None:
    process = psutil.Process(board.shop.processes["dashboard"].pid)

    async def share() -> float:
        before = process.cpu_times()
        await asyncio.sleep(MEASURED_S)
        after = process.cpu_times()
        return (after.user + after.system - before.user - before.system) / MEASURED_S

    async def watch() -> None:
        async with aclosing(board.events("/live")) as events:
            async for _ in events:
                pass

    print(f"at rest       {await share():>6.1%} of a core")
    for viewers in (1, 3):
        tasks = [asyncio.create_task(watch()) for _ in range(viewers)]
        print(f"{viewers} viewer{'s' if viewers > 1 else ' '}     {await share():>6.1%} of a core")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=1_500)
    parser.add_argument("--into", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.orders, arguments.into))
