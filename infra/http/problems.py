"""One kind of error for every service: application/problem+json (RFC 9457)."""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.params import HeaderParameter
from litestar.response import Response
from litestar.types import Send
from msgspec import Struct

from infra.core.errors import Busy, StoreUnavailable, StreamUnavailable, TooLarge, Unpublishable
from infra.http.wording import in_words
from infra.read_models.errors import ViewBehind

logger = structlog.get_logger()


class FieldError(Struct):
    """What is wrong with one field of a request. `source` is where the field is: body, header, path or query."""

    field: str
    source: str
    message: str


class ProblemBody(Struct, kw_only=True, omit_defaults=True):
    """The body of an error answer, application/problem+json. `type` is stable, so clients may compare it.

    `errors` has an object for each field that was found to be wrong; others may be wrong, too. Absent: none was found.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class Problem(Exception):
    """An error that a route raises and the client gets as the answer, with this status, detail and these headers.

    `slug` becomes the stable type `/problems/<slug>`, and the title. The argument `body` is the type of the answer's
    body: a service may have its own. `members` are the values of that type's other fields, such as `errors`. The
    attribute `body` is the answer's body itself.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        headers: dict[str, str] | None = None,
        body: type[ProblemBody] = ProblemBody,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.headers = headers or {}
        self.body = body(
            type=f"/problems/{slug}",
            title=slug.replace("-", " ").capitalize(),
            status=status,
            detail=detail,
            **members,
        )


def unavailable(detail: str) -> Problem:
    """Return a problem to raise: 503, and the client may repeat the request after a second (`Retry-After`).

    Only `detail` can tell the client whether a part of the request was recorded.
    """
    return Problem(503, "unavailable", detail, {"Retry-After": "1"})


def store_unavailable(reason: str) -> Problem:
    return unavailable(
        f"the store cannot be used right now ({reason}); retry, with the same Idempotency-Key if you sent one"
    )


def internal_error() -> Problem:
    return Problem(500, "internal-error", "this is an error of the service; its log has the details")


NOT_SOON: Final = {"Retry-After": "60"}
"""An operator has to act first: repeating the request every second would help nobody."""


def of_newer_code(why: str) -> Problem:
    """Return a problem to raise: 503, because a fact that the answer needs was recorded by newer code than this.

    Its detail says that nothing was changed, and ends with `why` in brackets. The client may repeat the request after
    a minute.
    """
    detail = f"only a newer version of this service can answer this; nothing was changed, all else works ({why})"
    return Problem(503, "of-newer-code", detail, NOT_SOON)


def damaged(why: str) -> Problem:
    """Return a problem to raise: 503, because a record that the answer needs cannot be read.

    Its detail says that nothing was changed, and ends with `why` in brackets. The client may repeat the request after
    a minute.
    """
    return Problem(
        503, "damaged", f"the record of this is damaged; nothing was changed, all else works ({why})", NOT_SOON
    )


def invalid(field: str, source: str, message: str) -> Problem:
    """Return a problem to raise: 400, because this field of the request is wrong.

    `source` says where the field is: body, header, path or query. `message` says what is wrong with it.
    """
    errors = [FieldError(field, source, message)]
    return Problem(400, "invalid-request", f"{field}: {message}", errors=errors)


def customer_not_found() -> Problem:
    """Return a problem to raise: 404, whether there is such a customer or not."""
    return Problem(404, "customer-not-found", "you have no such customer")


def answer_problem(problem: Problem) -> Response[bytes]:
    return Response(
        msgspec.json.encode(problem.body),
        status_code=problem.body.status,
        media_type="application/problem+json",
        headers=problem.headers,
    )


def encode_problem(problem: Problem) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the header fields and the body of this problem, for an answer past the framework."""
    body = msgspec.json.encode(problem.body)
    headers = {"content-type": "application/problem+json", "content-length": str(len(body)), **problem.headers}
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()], body


async def send_problem(problem: Problem, send: Send) -> None:
    """Answer an ASGI request with this problem, past the framework."""
    head, body = encode_problem(problem)
    await send({"type": "http.response.start", "status": problem.body.status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _on_problem(_: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    return answer_problem(problem)


def _header_name(request: Request[Any, Any, Any], parameter: str) -> str:
    """Return the name of the header that the handler's `parameter` takes; `parameter` itself if that is not known."""
    handler: HTTPRouteHandler | None = request.scope.get("route_handler")  # type: ignore[assignment]
    field = handler.parsed_fn_signature.parameters.get(parameter) if handler is not None else None
    header = field.kwarg_definition if field is not None else None
    return (header.name if isinstance(header, HeaderParameter) else None) or parameter


def _on_invalid(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    """Make the answer (400) to a request with wrong or missing parameters, or without a body.

    The answer names each wrong parameter. But if parameters are missing, it names one of the missing ones and no other.
    """
    items = [item for item in error.extra if isinstance(item, dict)] if isinstance(error.extra, list) else []
    errors = []
    for item in items:
        source = str(getattr(item.get("source"), "value", item.get("source")) or "")
        field, message = str(item.get("key") or source), in_words(str(item.get("message", "")))
        if source == "header":
            field = _header_name(request, field)
        elif source == "body":
            field, message = "body", "has to be a JSON object"
        errors.append(FieldError(field, source, message))
    if missing := re.match(r"Missing required (\w+) parameter '(\w+)'", error.detail):
        errors.append(FieldError(missing[2], missing[1], "is required"))
    detail = "; ".join(f"{error.field}: {error.message}" for error in errors) or error.detail
    return answer_problem(Problem(400, "invalid-request", detail, errors=errors))


NO_SUCH_PATH: Final = "there is no such path; /schema shows all that there are"

HTTP_SLUGS: Final = {400: "malformed-request", 404: "not-found", 405: "method-not-allowed", 413: "request-too-large"}


def _on_http(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    slug = HTTP_SLUGS.get(error.status_code, "http-error")
    detail = NO_SUCH_PATH if error.status_code == 404 else error.detail
    return answer_problem(Problem(error.status_code, slug, detail, dict(error.headers or {})))


def plain_404(response: Response[Any]) -> Response[Any]:
    """Replace a response with status 404 by a problem; return any other response unchanged.

    Litestar would answer an unknown path below /schema with an HTML page.
    """
    return answer_problem(Problem(404, "not-found", NO_SUCH_PATH)) if response.status_code == 404 else response


def _on_recursion(_: Request[Any, Any, Any], __: RecursionError) -> Response[bytes]:
    return answer_problem(Problem(400, "malformed-request", "the JSON is nested too deeply"))


def _on_busy(_: Request[Any, Any, Any], __: Busy) -> Response[bytes]:
    return answer_problem(unavailable("too many requests are waiting to be recorded; retry after the given delay"))


def _on_store(_: Request[Any, Any, Any], error: StoreUnavailable) -> Response[bytes]:
    return answer_problem(store_unavailable(str(error)))


def _on_stream(_: Request[Any, Any, Any], error: StreamUnavailable) -> Response[bytes]:
    return answer_problem(of_newer_code(str(error)) if error.newer else damaged(str(error)))


def _on_view(_: Request[Any, Any, Any], behind: ViewBehind) -> Response[bytes]:
    return answer_problem(unavailable(str(behind)))


def _on_unpublishable(_: Request[Any, Any, Any], error: Unpublishable) -> Response[bytes]:
    if isinstance(error, TooLarge):
        return answer_problem(Problem(413, "request-too-large", str(error)))
    return answer_problem(Problem(400, "invalid-request", str(error)))


def _on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    logger.error("request failed", method=request.method, path=request.url.path, exc_info=error)
    return answer_problem(internal_error())


EXCEPTION_HANDLERS: Final[dict[Any, Callable[[Request[Any, Any, Any], Any], Response[Any]]]] = {
    Problem: _on_problem,
    ValidationException: _on_invalid,
    HTTPException: _on_http,
    RecursionError: _on_recursion,
    Busy: _on_busy,
    StoreUnavailable: _on_store,
    StreamUnavailable: _on_stream,
    Unpublishable: _on_unpublishable,
    ViewBehind: _on_view,
    Exception: _on_bug,
}
