"""HTTP for every service: one kind of error (RFC 9457), health, OpenAPI with a page that works offline."""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
import structlog
from litestar import Litestar, Request, Router, get
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.params import HeaderParameter, PathParameter, QueryParameter
from litestar.response import Response
from litestar.types import ControllerRouterHandler
from litestar.types.internal_types import RouteHandlerMapItem
from msgspec import Meta, Struct

from infra.docs_page import DocsPage
from infra.recording import Answer
from infra.shortcut import Shortcut, again, shortcuts
from infra.views import ViewBehind
from infra.writer import Busy, StoreUnavailable

log = structlog.get_logger()

MAX_BODY_BYTES: Final = 16 << 10

Id = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]{1,64}\Z", description="1 to 64 letters, digits, `_` or `-`: a token of a NATS subject."
    ),
]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Amount = Annotated[int, Meta(ge=1, le=10**12)]
Price = Annotated[int, Meta(ge=1, le=10**9, description="won")]

PathId = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
QueryId = Annotated[str, QueryParameter(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
PageSize = Annotated[int, QueryParameter(ge=1, le=200)]
After = Annotated[
    str, QueryParameter(pattern=r"^[A-Za-z0-9_-]{0,64}\Z", description="`next` of the page before; empty: the first.")
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        required=False,
        pattern=r"^[\x21-\x7e]{1,255}\Z",
        description="1 to 255 visible ASCII characters; the same key is the same request.",
    ),
]


class ProblemBody(Struct, kw_only=True, omit_defaults=True):
    """application/problem+json. `type` is stable; `errors` names the fields that were wrong."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = []
    order_id: str | None = None
    order_status: str | None = None


class Problem(Exception):
    """An error for the client: `slug` becomes the stable type `/problems/<slug>`."""

    def __init__(
        self, status: int, slug: str, detail: str, headers: dict[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail)
        self.headers = headers or {}
        self.body = ProblemBody(
            type=f"/problems/{slug}",
            title=slug.replace("-", " ").capitalize(),
            status=status,
            detail=detail,
            **extra,
        )


def unavailable(detail: str) -> Problem:
    """503: nothing was recorded; the same request is welcome again in a second."""
    return Problem(503, "unavailable", detail, {"Retry-After": "1"})


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """For a route's OpenAPI: it may answer these statuses with a problem."""
    return {
        status: ResponseSpec(
            ProblemBody, media_type="application/problem+json", description="problem", generate_examples=False
        )
        for status in statuses
    }


def replayable(key: str | None) -> tuple[str, Callable[[Answer], dict[str, str]]]:
    """The request's idempotency key, made here if it has none, and the headers that tell the client about it."""
    key = key or secrets.token_hex(16)
    return key, lambda answer: {"Idempotency-Key": key} | ({} if answer.facts else {"Idempotent-Replayed": "true"})


def invalid(field: str, source: str, message: str) -> Problem:
    """400: the client meant something that cannot be."""
    errors = [{"field": field, "source": source, "message": message}]
    return Problem(400, "invalid-request", f"{field}: {message}", errors=errors)


class StrictRequest(Request[Any, Any, Any]):
    """Decodes a body once, as what its route takes: a number in quotes is no number here."""

    async def json(self) -> Any:
        wanted = self.route_handler.parsed_data_field
        if wanted is None:
            return await super().json()
        try:
            return _decoder(wanted.annotation).decode(await self.body())
        except msgspec.ValidationError as error:
            raise invalid(*_field_and_message(str(error))) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Problem(400, "malformed-request", str(error)) from None


@lru_cache
def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted)


def _field_and_message(error: str) -> tuple[str, str, str]:
    """The field that msgspec's message is about, with its path; where it is; and the rest of the message."""
    message, _, at = error.partition(" - at `$")
    field = at.removesuffix("`").removeprefix(".")
    if named := re.fullmatch(r"Object (?:contains unknown|missing required) field `(.+)`", message):
        field = f"{field}.{named[1]}" if field else named[1]
    return field or "body", "body", message


def answer_problem(problem: Problem) -> Response[bytes]:
    return Response(
        msgspec.json.encode(problem.body),
        status_code=problem.body.status,
        media_type="application/problem+json",
        headers=problem.headers,
    )


def _on_problem(_: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    return answer_problem(problem)


HEADERS: Final = {"idempotency_key": "Idempotency-Key", "user": "X-User-Id"}
"""By the name of the parameter that takes it."""


def _on_invalid(_: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    """What the framework found wrong with a parameter, or that there is no body."""
    items = [item for item in error.extra if isinstance(item, dict)] if isinstance(error.extra, list) else []
    errors = []
    for item in items:
        source = str(getattr(item.get("source"), "value", item.get("source")) or "")
        field, message = str(item.get("key") or source), str(item.get("message", ""))
        if source == "header":
            field = HEADERS.get(field, field)
        elif source == "body":
            field, message = "body", "a JSON object is required"
        errors.append({"field": field, "source": source, "message": message})
    if missing := re.match(r"Missing required (\w+) parameter '(\w+)'", error.detail):
        errors.append({"field": missing[2], "source": missing[1], "message": "required"})
    detail = "; ".join(f"{item['field']}: {item['message']}" for item in errors) or error.detail
    return answer_problem(Problem(400, "invalid-request", detail, errors=errors))


HTTP_SLUGS: Final = {400: "malformed-request", 404: "not-found", 405: "method-not-allowed", 413: "request-too-large"}


def _on_http(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    slug = HTTP_SLUGS.get(error.status_code, "http-error")
    return answer_problem(Problem(error.status_code, slug, error.detail, dict(error.headers or {})))


def _plain_404(response: Response[Any]) -> Response[Any]:
    """Litestar answers an unknown path below /schema with a page."""
    return answer_problem(Problem(404, "not-found", "Not Found")) if response.status_code == 404 else response


def _on_recursion(_: Request[Any, Any, Any], __: RecursionError) -> Response[bytes]:
    return answer_problem(Problem(400, "malformed-request", "the JSON is nested too deeply"))


def _on_busy(_: Request[Any, Any, Any], __: Busy) -> Response[bytes]:
    return answer_problem(unavailable("too many requests are waiting"))


def _on_store(_: Request[Any, Any, Any], error: StoreUnavailable) -> Response[bytes]:
    return answer_problem(unavailable(f"nothing can be recorded right now ({error}); the same key is the same request"))


def _on_view(_: Request[Any, Any, Any], behind: ViewBehind) -> Response[bytes]:
    return answer_problem(unavailable(str(behind)))


def _on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
    return answer_problem(Problem(500, "internal-error", "this is our mistake; the log has it"))


EXCEPTION_HANDLERS: Final[dict[Any, Callable[[Request[Any, Any, Any], Any], Response[Any]]]] = {
    Problem: _on_problem,
    ValidationException: _on_invalid,
    HTTPException: _on_http,
    RecursionError: _on_recursion,
    Busy: _on_busy,
    StoreUnavailable: _on_store,
    ViewBehind: _on_view,
    Exception: _on_bug,
}


class Readiness(Struct):
    """`ready` and, where not, `why`; `warnings`: what does not stop it from working, and wants to be looked at."""

    ready: bool
    why: list[str] = []
    warnings: list[str] = []


class _App(Litestar):
    """Litestar, with shortcuts to some of its routes."""

    shortcuts: Mapping[tuple[str, str], Shortcut] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            shortcut = self.shortcuts.get((scope["method"], scope["path"]))
            if shortcut is not None:
                received = await shortcut.take(scope, receive, send)
                if not received:
                    return
                receive = again(received, receive)
        await super().__call__(scope, receive, send)

    @property
    def route_handler_method_map(self) -> dict[str, RouteHandlerMapItem]:
        """What is there when a route is added: without OPTIONS, so that it is made again.

        Litestar makes a path's answer to OPTIONS with its first route and keeps it, whatever methods come after.
        """
        return {
            path: {method: handler for method, handler in handlers.items() if method != "OPTIONS"}
            for path, handlers in super().route_handler_method_map.items()
        }


def build_app(
    title: str,
    routes: Sequence[ControllerRouterHandler],
    readiness: Callable[[], Awaitable[list[str]]],
    warnings: Callable[[], list[str]] = list,
) -> Litestar:
    """The ASGI app of a service. `readiness` gives what stands in the way, nothing when all is well."""

    @get("/healthz", tags=["health"], summary="The event loop is alive", sync_to_thread=False)
    def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @get(
        "/readyz",
        tags=["health"],
        summary="Store, broker, stream and relay are as they should be",
        responses=problems(503),
    )
    async def readyz() -> Readiness:
        why = await readiness()
        if why:
            raise Problem(503, "not-ready", "; ".join(why), {"Retry-After": "1"})
        return Readiness(ready=True, warnings=warnings())

    app = _App(
        [healthz, readyz, *routes],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=OpenAPIConfig(
            title=title,
            version="1",
            render_plugins=[DocsPage()],
            openapi_router=Router("/schema", route_handlers=[], include_in_schema=False, after_request=_plain_404),
        ),
        request_class=StrictRequest,
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
        state=State(),
    )
    app.shortcuts = shortcuts(routes, EXCEPTION_HANDLERS, MAX_BODY_BYTES)
    return app
