"""The pages that list orders, and the page that finds things."""

from collections.abc import AsyncIterator, Mapping

import httpx
from litestar import Response, get
from litestar.response import Redirect, Stream
from litestar.types import ControllerRouterHandler

from infra.aio import wait
from infra.http.parameters import AnyRequest
from infra.http.problems import Problem
from ops.client import ServiceAddress
from ops.dashboard import live
from ops.dashboard.finding import Finder, FoundThings
from ops.dashboard.lists import Filters, choices, filters, listed, newer, why_none
from ops.dashboard.pages import page
from ops.dashboard.poller import Poller
from ops.dashboard.routes import FIRST_S
from ops.dashboard.searches import LogSearch
from ops.errors import Unreachable

LOOK_S = 2.0
"""Between two looks for new orders while the first page of a list, the newest first, is open."""


def list_routes(
    http: httpx.AsyncClient,
    services: Mapping[str, ServiceAddress],
    poller: Poller,
    finder: Finder,
    log_search: LogSearch,
) -> list[ControllerRouterHandler]:
    order = services["order"]

    @get("/orders", include_in_schema=False)
    async def orders(request: AnyRequest) -> Response[str]:
        wanted, cursor = filters(request.query_params), request.query_params.get("cursor", "")
        found = await (log_search.page(wanted, cursor) if wanted.needs_search else listed(http, order, wanted, cursor))
        why = found.why
        if not (found.rows or why):
            why = why_none(wanted, poller.latest or await poller.fresh(FIRST_S))
        return page("orders.html", wanted=wanted, found=found, cursor=cursor, why=why, **choices())

    @get("/orders/live", include_in_schema=False)
    async def orders_live(request: AnyRequest) -> Stream:
        wanted, first = filters(request.query_params), request.query_params.get("first", "")
        if wanted.needs_search:
            raise Problem(400, "invalid-request", "a search is not kept up to date")
        return live.answer(_new(http, order, wanted, first, poller))

    @get("/find", include_in_schema=False)
    async def find(request: AnyRequest) -> Response[str] | Redirect:
        text = request.query_params.get("q", "").strip()
        found = await finder.find(text) if text else FoundThings([], [])
        if found.only:
            return Redirect(found.only)
        return page("find.html", text=text, found=found)

    return [orders, orders_live, find]


async def _new(
    http: httpx.AsyncClient, order: ServiceAddress, wanted: Filters, first: str, poller: Poller
) -> AsyncIterator[bytes]:
    """Look every LOOK_S (2 s) until the poller closes: yield an event with the number of newer orders if it has risen.

    Newer: placed after the row whose `place` is `first`. Only the first page of `wanted` is looked at, so at most PAGE
    (50) are counted. Otherwise, and if order_svc cannot be asked, a look yields a PING. Raises Problem (400) for a
    wrong filter.
    """
    told = 0
    while not poller.closing.is_set():
        try:
            count = newer((await listed(http, order, wanted)).rows, first)
            yield live.event(str(count), count, live.NEW) if count > told else live.PING
            told = max(told, count)
        except Unreachable:
            yield live.PING  # the first screen says so
        await wait(poller.closing, LOOK_S)
