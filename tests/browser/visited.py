"""Every page of the dashboard, for tests that look at each of them."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.browser.chromium import Chromium, chromium
from tests.ops.boards import Board
from tests.ops.test_dashboard_dead_letters import fields, sent
from tests.saga.test_dead_letters import until_parked
from tests.shop import open_shop

PAGES = [
    *("overview", "order", "moment", "refused", "stuck", "list", "empty list", "wrong filter", "found", "not found"),
    *("dead letters", "operation", "no page"),
]


class Visited:
    """Pages of a dashboard on a shop in which there is something of everything."""

    def __init__(self, board: Board, browser: Chromium, pages: dict[str, str]) -> None:
        self.board = board
        self.browser = browser
        self.pages = pages


@contextlib.asynccontextmanager
async def visiting(folder: Path) -> AsyncIterator[Visited]:
    async with (
        open_shop(folder, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="5", ALLERGIC_TO='"points":13') as shop,
        chromium(folder / "profile") as browser,
    ):
        await shop.register("mug", stock=1_000)
        await shop.charge("u1", 1_000)
        await shop.stop("point")
        await shop.start("point", wrapper="allergic")
        board = Board(shop)
        await board.start()
        good = (await shop.place([("mug", 1)], points=1)).json()["order_id"]
        bad = (await shop.place([("mug", 1)], coupon="none")).json()["order_id"]
        await shop.until_ended(bad)
        stuck = (await shop.place([("mug", 1)], points=13)).json()["order_id"]
        await until_parked(shop, 2)
        preview = fields((await sent(board, "/dead-letters/preview", fields(await html(board, "/dead-letters")))).text)
        operation = await sent(board, "/dead-letters/redrive", {**preview, "reason": "a try"})
        await shop.kill("coupon")
        yield Visited(
            board,
            browser,
            {
                "overview": "/",
                "order": f"/orders/{good}",
                "moment": f"/orders/{good}?at=reservation@1",
                "refused": f"/orders/{bad}",
                "stuck": f"/orders/{stuck}",
                "list": "/orders",
                "empty list": "/orders?user_id=nobody",
                "wrong filter": "/orders?status=DONE",
                "found": "/find?q=mug",
                "not found": "/find?q=nothing",
                "dead letters": "/dead-letters",
                "operation": operation.headers["location"],
                "no page": "/nothing",
            },
        )


async def html(board: Board, path: str) -> str:
    return (await board.get(path)).text
