"""The HTTP app of a service: its routes, health, OpenAPI with a page that works offline, errors as RFC 9457."""

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
from litestar import Litestar, Router, get
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.routes import HTTPRoute
from litestar.types import ControllerRouterHandler
from litestar.types.internal_types import RouteHandlerMapItem
from msgspec import Struct

from infra.auth.principal import OPS_READ
from infra.http.access import ACCESS, AUTHENTICATED, PUBLIC, Authentication, check_scope, may_read
from infra.http.answers import problems
from infra.http.docs_page import SECURITY, DocsPage, Document
from infra.http.durations import STATUS, UNMATCHED, RequestDurations
from infra.http.examples import example
from infra.http.fast_path import fast_paths, replay
from infra.http.grammar import MAX_BODY_BYTES
from infra.http.origin_check import OriginCheck
from infra.http.parameters import AnyRequest, StrictRequest
from infra.http.problems import EXCEPTION_HANDLERS, Problem, plain_404, send_problem
from infra.http.repeated import RepeatedParameters
from infra.metrics import Metrics

logger = structlog.get_logger()

NOT_FOR_CLIENTS: Final = frozenset({"operators", "health"})
"""Tags of the routes, for operators and probes, whose requests have no series of durations."""


@example(status="alive")
class Liveness(Struct):
    """The answer to GET /healthz; `status` is always `alive`."""

    status: str


@example(ready=True, pid=4_711)
class Readiness(Struct):
    """The answer of a ready service to GET /readyz. A service that is not ready answers 503 with a problem instead.

    So `ready` is always true and `why` always empty. `warnings`: the service works, but an operator has to look at
    these; empty if there are none. `pid`: the id of the process that answers. Where tokens are asked for, a caller
    without the scope ops:read is told neither: `warnings` is empty and `pid` 0.
    """

    ready: bool
    pid: int
    why: list[str] = []
    warnings: list[str] = []


class App(Litestar):
    """A Litestar app that refuses requests by its OriginCheck, and offers the others to the fast path of their route.

    RepeatedParameters comes before the OriginCheck. It answers 400 to a repeated query parameter, to a repeated header
    that it covers, and to another spelling of a whole number in the query; 404 to another spelling of a path. After
    both, the Authentication, if there is one, finds out who sends the request.
    Litestar handles the requests to routes without a fast path, and those that the fast path does not answer.
    """

    def __init__(
        self,
        *args: Any,
        origin_check: OriginCheck | None = None,
        durations: RequestDurations | None = None,
        authentication: Authentication | None = None,
        **settings: Any,
    ) -> None:
        """Take Litestar's arguments (`args`, `settings`), the check of origins, and what measures the requests.

        `origin_check` None: only loopback's names are allowed. `durations` None: the measurements are not exported.
        `authentication` None: callers are not asked for tokens. Raises FastPathRefused if a route's fast path would
        skip a part of the route.
        """
        super().__init__(*args, **settings)
        self._durations = durations or RequestDurations(Metrics())
        self._durations.routes = {
            route.path_format
            for route in self.routes
            if isinstance(route, HTTPRoute)
            for handler in route.route_handlers
            if handler.tags and NOT_FOR_CLIENTS.isdisjoint(handler.tags)
        }
        self._refusal = (origin_check or OriginCheck()).refusal
        self._fast_paths = fast_paths(self)
        self._authentication = authentication
        if authentication is not None:
            authentication.learn_routes(self)
        self._repeated = RepeatedParameters(self)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)
        fast_path = self._fast_paths.get((scope["method"], scope["path"]))
        problem = self._repeated.problem(scope) or self._refusal(scope["headers"])
        try:
            if problem is None and self._authentication is not None:
                problem = await self._authentication.admit(scope)
            if problem is not None:
                await send_problem(problem, send)
            elif fast_path is None:
                await super().__call__(scope, receive, send)
            elif (received := await fast_path.take(scope, receive, send)) is not None:
                await super().__call__(scope, replay(received, receive), send)
        except Exception:
            scope["state"].setdefault(STATUS, 500)  # the server answers it
            raise
        finally:
            self._durations.observe(scope, UNMATCHED if fast_path is None else scope["path"])
        return None

    @property
    def route_handler_method_map(self) -> dict[str, RouteHandlerMapItem]:
        """Return the handlers registered so far, by path and method, but none for OPTIONS.

        Litestar's `register` looks here for existing handlers, so it makes those for OPTIONS again. Litestar 2.25 makes
        the OPTIONS handler of a path together with the path's first route and keeps that handler when more routes are
        added. The handler's answer then lists the methods of the first route only. Remove the override when `Allow`
        lists all methods without it; the test of OPTIONS in tests/saga/test_http_bad_requests.py shows that.
        """
        return {
            path: {method: handler for method, handler in handlers.items() if method != "OPTIONS"}
            for path, handlers in super().route_handler_method_map.items()
        }


def _not_ready(why: list[str]) -> Problem:
    return Problem(503, "not-ready", "; ".join(why), {"Retry-After": "1"})


def _documentation(title: str, description: str | None) -> OpenAPIConfig:
    below_schema = Router(
        "/schema", route_handlers=[], include_in_schema=False, after_request=plain_404, response_headers=SECURITY
    )
    return OpenAPIConfig(
        title=title,
        version="1",
        description=description,
        render_plugins=[DocsPage(), Document()],
        openapi_router=below_schema,
    )


def _probes(
    readiness: Callable[[], Awaitable[list[str]]], warnings: Callable[[], list[str]]
) -> list[ControllerRouterHandler]:
    @get(
        "/healthz",
        tags=["health"],
        summary="The process is alive and answers",
        opt={ACCESS: PUBLIC},
        sync_to_thread=False,
    )
    def healthz() -> Liveness:
        return Liveness("alive")

    @get(
        "/readyz",
        tags=["health"],
        summary="The service can record facts, and consume and publish messages",
        opt={ACCESS: PUBLIC},
        responses=problems(_not_ready(["the broker cannot be reached"])),
    )
    async def readyz(request: AnyRequest) -> Readiness:
        why = await readiness()
        told = may_read(request, OPS_READ)
        if why:
            raise _not_ready(why if told else ["why, it tells a caller whose token has the scope ops:read"])
        return Readiness(ready=True, pid=os.getpid(), warnings=warnings()) if told else Readiness(ready=True, pid=0)

    return [healthz, readyz]


def build_app(
    title: str,
    routes: Sequence[ControllerRouterHandler],
    readiness: Callable[[], Awaitable[list[str]]],
    warnings: Callable[[], list[str]] = list,
    allowed_hosts: Sequence[str] = (),
    *,
    description: str | None = None,
    durations: RequestDurations | None = None,
    authentication: Authentication | None = None,
) -> Litestar:
    """Build a service's ASGI app: `routes`, `/healthz`, `/readyz`, and the OpenAPI document and page below `/schema`.

    `readiness` returns the reasons why the service is not ready; an empty list means that it is ready. `warnings`
    returns what `/readyz` shows as warnings. `/readyz` calls `readiness`, then `warnings` if the service is ready.
    `allowed_hosts` are names of the service besides loopback's (`OriginCheck`). `description`: what the service does,
    for the OpenAPI document. `durations` measures the requests; None: the measurements are not exported.
    `authentication` finds out who asks; None: nobody is asked for a token.

    Raises FastPathRefused if a route's fast path would skip a part of the route.
    """

    return App(
        [*_probes(readiness, warnings), *routes],
        origin_check=OriginCheck(allowed_hosts),
        durations=durations,
        authentication=authentication,
        guards=[] if authentication is None else [check_scope],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=_documentation(title, description),
        request_class=StrictRequest,
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
        state=State({AUTHENTICATED: authentication}),
    )
