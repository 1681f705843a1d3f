"""The dashboard's first screen, its numbers for `just status`, its files, `/healthz`, and its pages for errors."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from litestar import Response, get
from litestar.exceptions import HTTPException
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from infra.http.access import ACCESS, PUBLIC
from infra.http.parameters import AnyRequest
from infra.http.problems import Problem
from infra.timestamps import now
from ops.client import ServiceAddress
from ops.dashboard import live
from ops.dashboard.flow_map import flow_map
from ops.dashboard.order import FlowTables
from ops.dashboard.overview import audit, links, panels
from ops.dashboard.pages import FOR_EVER, KINDS, page, render, static_file
from ops.dashboard.poller import Poller, Snapshot
from ops.errors import Unreachable
from ops.status import minutes

logger = structlog.get_logger()

FIRST_S: Final = 2.5
"""How long the first screen, and what is not found, wait for fresh numbers, and other pages for the first ones."""


def overview_routes(poller: Poller, tables: FlowTables, order: ServiceAddress) -> list[ControllerRouterHandler]:
    drawn: dict[int, str] = {}

    def draw(seen: Snapshot) -> str:
        """Render the changing part of the first screen, once for all viewers."""
        if seen.number not in drawn:
            drawn.clear()
            drawn[seen.number] = render("overview_part.html", **_overview(seen, tables))
        return drawn[seen.number]

    @get("/", include_in_schema=False)
    async def overview() -> Response[str]:
        seen = await poller.fresh(FIRST_S)
        if seen is None:
            return page("starting.html", status=503)
        return page("overview.html", **_overview(seen, tables))

    @get("/live", include_in_schema=False)
    async def overview_live(request: AnyRequest) -> Stream:
        return live.answer(live.snapshots(poller, draw, live.seen_last(request)))

    @get(minutes.PATH, include_in_schema=False)
    async def recent() -> dict[str, Any]:
        """Answer `just status` with the rates of the last minutes, as a RatesAnswer.

        Raises Problem (503) without two looks in that time, such as just after the start.
        """
        seen = poller.recent()
        if seen is None:
            raise Problem(503, "not-ready", "the dashboard has just started")
        told: dict[str, Any] = msgspec.to_builtins(minutes.told(order, seen))
        return told

    return [overview, overview_live, recent]


def _overview(seen: Snapshot, tables: FlowTables) -> dict[str, Any]:
    return {
        "seen": seen,
        "age_s": (now() - seen.at).total_seconds(),
        "panels": panels(seen),
        "links": links(seen.health),
        "map": flow_map(seen, tables),
        "audit": audit(seen),
    }


@get("/static/{version:str}/{name:str}", include_in_schema=False, opt={ACCESS: PUBLIC}, sync_to_thread=False)
def static(name: str) -> Response[bytes]:
    """Answer with a file that pages load. The version in the path is ignored: by it a browser asks for a changed file.

    Raises Problem (404) if there is no file of this name.
    """
    try:
        return Response(static_file(name), media_type=KINDS[name], headers=FOR_EVER)
    except KeyError:
        raise Problem(404, "not-found", "there is no such file") from None


@get("/healthz", include_in_schema=False, opt={ACCESS: PUBLIC}, sync_to_thread=False)
def healthz() -> dict[str, str]:
    return {"status": "alive"}


# Errors ---------------------------------------------------------------------------------------------------------------


def _failed(status: int, why: str) -> Response[str]:
    return page("error.html", status=status, code=status, why=why)


def _on_problem(_: AnyRequest, problem: Problem) -> Response[str]:
    return _failed(problem.body.status, problem.body.detail)


def _on_http(_: AnyRequest, error: HTTPException) -> Response[str]:
    return _failed(error.status_code, "there is no such page" if error.status_code == 404 else error.detail)


def _on_unreachable(_: AnyRequest, error: Unreachable) -> Response[str]:
    return _failed(503, str(error))


def _on_bug(request: AnyRequest, error: Exception) -> Response[str]:
    logger.error("request failed", method=request.method, path=request.url.path, exc_info=error)
    return _failed(500, "this is an error of the dashboard; its log has the details")


EXCEPTION_HANDLERS: Final[dict[Any, Callable[[AnyRequest, Any], Response[str]]]] = {
    Problem: _on_problem,
    HTTPException: _on_http,
    Unreachable: _on_unreachable,
    Exception: _on_bug,
}
