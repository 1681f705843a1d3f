"""The page of one order, and what it is sent while it is open."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, NamedTuple

from litestar import Response, get
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from contracts.ids import MEANING, is_id
from infra.aio import wait
from infra.consuming.dead_letter import PREFIX, DeadLetter
from infra.http.parameters import AnyRequest
from infra.http.problems import Problem
from infra.timestamps import now
from ops.dashboard import live
from ops.dashboard.facts import OrderReader
from ops.dashboard.order import FlowTables, ShownOrder, order_page
from ops.dashboard.pages import page, render
from ops.dashboard.poller import Poller
from ops.dashboard.routes import FIRST_S
from ops.dashboard.stream import StreamReader
from ops.dashboard.to_copy import trace_address
from ops.errors import Unreachable
from ops.seen_facts import SeenFact
from ops.waits import due

LOOK_S: Final = 0.25
"""Between two looks at the stream while the page of an order that is not over is open."""
PING_S: Final = 10.0
LONG_S: Final = 1.0
"""An answer that is due for longer may have become a dead letter."""


class OrderLook(NamedTuple):
    """What one look has found of an order. `trouble`: as in KnownFacts."""

    facts: Sequence[SeenFact]
    dead_letters: Sequence[DeadLetter]
    trouble: str


class OrderBoard:
    """Puts together what the page of an order shows, from the stream, the poller and the reaction tables."""

    def __init__(
        self,
        poller: Poller,
        stream: StreamReader,
        tables: FlowTables,
        reader: OrderReader,
        *,
        clock: Callable[[], datetime] = now,
        trace_template: str = "",
    ) -> None:
        """`trace_template`: see `trace_address`."""
        self._poller = poller
        self._stream = stream
        self._tables = tables
        self._reader = reader
        self._clock = clock
        self._trace_template = trace_template

    async def page(self, order_id: str, at: str = "") -> ShownOrder | None:
        """Return the page of this order; None if stream and archive have no fact of it. `at`: see `order_page`.

        If stream or archive cannot be read, the page has the facts that were read last, and those of the services'
        logs. Raises Unreachable if there are none.
        """
        return self._page(order_id, at, await self._look(order_id))

    def _page(self, order_id: str, at: str, found: OrderLook) -> ShownOrder | None:
        if not found.facts:
            return None
        seen, letters = self._poller.latest, found.dead_letters
        made = order_page(
            order_id,
            found.facts,
            self._tables,
            seen,
            letters=letters,
            at=at,
            trouble=found.trouble,
            generations=self._stream.generations,
        )
        return made._replace(trace=trace_address(self._trace_template, order_id))

    async def _look(self, order_id: str) -> OrderLook:
        """Look at the order: its facts, by OrderReader; its dead letters if an answer is due for 1 s (LONG_S).

        There may be no fact. If stream or archive cannot be read, dead letters are not asked for, and `trouble` says
        why. Dead letters that cannot be read are left out, without a `trouble`. Raises Unreachable as
        `OrderReader.facts` does.
        """
        facts, trouble = await self._reader.facts(order_id)
        letters: Sequence[DeadLetter] = ()
        if not trouble:
            with suppress(Unreachable):  # if the broker is away, the next look says so
                letters = await self._letters(order_id, facts)
        return OrderLook(facts, letters, trouble)

    async def _letters(self, order_id: str, facts: Sequence[SeenFact]) -> list[DeadLetter]:
        waits = [one.since for one in due(facts, self._tables.parts) if one.since is not None]
        if not waits or (self._clock() - min(waits)).total_seconds() < LONG_S:
            return []
        return await self._stream.dead_letters(f"{PREFIX}.*.{order_id}", whole=False)

    async def events(self, order_id: str, at: str, after: int) -> AsyncGenerator[bytes, None]:
        """Yield an event with the HTML of the page's changing part, whenever a look (every LOOK_S) finds it changed.

        If stream or archive cannot be read and no fact is known, yield a TROUBLE: why. Once the order is over and there
        is no `trouble`, the event with the HTML is a FINISHED, the last one. Ends, too, when the poller closes. After
        PING_S (10 s) without an event it yields a PING.

        An event's id is the largest sequence of the facts on the page; a TROUBLE's id is `after`. `after`: the id that
        the open page has. If the first HTML has that id, it is not sent, unless the order is over or there is a
        `trouble`. `at`: see `order_page`.
        """
        clock = asyncio.get_running_loop().time
        drawn, drawn_from, quiet_since = "", None, clock()
        with self._poller.watching():
            while not self._poller.closing.is_set():
                told, name, its_id = drawn, "", after
                try:
                    found = await self._look(order_id)
                except Unreachable as error:
                    told, name, drawn_from = str(error), live.TROUBLE, None
                else:
                    look = (found, self._poller.latest and self._poller.latest.number)
                    if look != drawn_from and (shown := self._page(order_id, at, found)) is not None:
                        drawn_from, its_id = look, shown.sequence
                        name = live.FINISHED if shown.over and not shown.trouble else ""
                        told = render("order_part.html", shown=shown)
                        if not drawn and its_id == after and not name and not shown.trouble:
                            drawn = told  # the page shows it already
                if told != drawn:
                    drawn, quiet_since = told, clock()
                    yield live.event(told, its_id, name)
                    if name == live.FINISHED:
                        return
                elif clock() - quiet_since > PING_S:
                    quiet_since = clock()
                    yield live.PING
                await wait(self._poller.closing, LOOK_S)


def order_routes(board: OrderBoard, poller: Poller) -> list[ControllerRouterHandler]:
    @get("/orders/{order_id:str}", include_in_schema=False)
    async def order(request: AnyRequest, order_id: str) -> Response[str]:
        check_id(order_id)
        await poller.fresh(FIRST_S if poller.latest is None else 0.0)  # only for the first numbers the order waits
        shown = await board.page(order_id, request.query_params.get("at", ""))
        if shown is None:
            raise Problem(404, "not-found", f"the stream and the archive have no order {order_id}")
        query = f"?{request.url.query}" if request.url.query else ""
        return page("order.html", shown=shown, query=query)

    @get("/orders/{order_id:str}/live", include_in_schema=False)
    async def order_live(request: AnyRequest, order_id: str) -> Stream:
        check_id(order_id)
        return live.answer(board.events(order_id, request.query_params.get("at", ""), live.seen_last(request)))

    return [order, order_live]


def check_id(text: str) -> None:
    if not is_id(text):
        raise Problem(404, "not-found", f"this is no id of an order: {MEANING}")
