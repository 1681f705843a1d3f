"""A fast path past the framework, for a route that gets thousands of requests a second.

For such a route Litestar costs several times as much as the route's own work. A well-formed request is dispatched
straight to the route's handler. Any other request goes on to Litestar, which explains the mistake. So no explanation
exists twice.

The fast path skips everything else that Litestar would run for the route: guards, middleware, hooks, dependencies. So
`fast_paths` refuses a route that has any of these, and the service does not start. One hook runs on both ways, before
the body is judged: a `HeaderCheck`, with which a route checks its caller. An answer that has more than content and
headers, such as cookies or a background task, is sent by Litestar's own code. A token is verified before both ways
part (`infra.http.access`); a route whose callers need a scope has no fast path.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import msgspec
from litestar import Litestar, Request
from litestar.handlers import HTTPRouteHandler
from litestar.params import HeaderParameter
from litestar.response import Response
from litestar.routes import HTTPRoute
from litestar.types import HTTPScope, Send

from contracts.fact import DECODE_ERRORS
from infra.http.fast_path_skips import skipped_by_fast_path
from infra.http.parameters import HeaderCheck

FAST_PATH: Final = "fast_path"
"""The key in a route's `opt` that asks for a fast path: `opt={FAST_PATH: True}`."""

ExceptionHandlers = Mapping[type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Any]]]

Receive = Callable[[], Awaitable[Any]]
"""Returns the next ASGI message of one request."""


class FastPathRefused(Exception):
    """A route cannot have a fast path; the message names the route and what would be skipped."""


class _Header(NamedTuple):
    parameter: str
    pattern: re.Pattern[str]


class FastPath:
    """Answers well-formed requests to one route by calling its handler, without Litestar.

    Making a fast path raises FastPathRefused if it would skip a part of the route.
    """

    def __init__(self, route: HTTPRoute, handler: HTTPRouteHandler) -> None:
        fields = handler.parsed_fn_signature.parameters
        headers = {name: field.kwarg_definition for name, field in fields.items()}
        hook = handler.resolve_before_request()
        if skipped := skipped_by_fast_path(route, handler):
            methods = "/".join(sorted(handler.http_methods))
            raise FastPathRefused(
                f"{methods} {route.path} cannot have a fast path, which would skip: {'; '.join(skipped)}. "
                f"Remove {FAST_PATH!r} from its opt, or check the caller in a HeaderCheck as `before_request`."
            )
        named = {name: header for name, header in headers.items() if isinstance(header, HeaderParameter)}
        self._call: Callable[..., Awaitable[Response[Any]]] = handler.fn
        self._status = handler.status_code
        self._decoder = msgspec.json.Decoder(fields["data"].annotation)
        self._headers = {
            (header.name or name).lower().encode(): _Header(name, re.compile(header.pattern or ""))
            for name, header in named.items()
        }
        self._missing = dict.fromkeys(named)
        self._check = hook.check if isinstance(hook, HeaderCheck) else None
        self._checked = self._headers[hook.header.lower().encode()].parameter if isinstance(hook, HeaderCheck) else ""
        self._encode = msgspec.json.Encoder(enc_hook=handler.default_serializer).encode
        self._type_encoders = handler.resolve_type_encoders()
        self._exception_handlers = cast(ExceptionHandlers, handler.app.exception_handlers)
        self._max_bytes = handler.resolve_request_max_body_size() or 0

    async def take(self, scope: HTTPScope, receive: Receive, send: Send) -> list[Any] | None:
        """Answer the request and return None; or answer nothing and return the ASGI messages received so far.

        It returns messages if the request is too large or not well-formed: Litestar then answers, reading by `replay`.
        The list may be empty. An error of the HeaderCheck or the handler is answered here, by the app's exception
        handlers.
        """
        parameters = self._parameters(scope)
        if parameters is None:
            return []
        try:
            if self._check is not None:
                self._check(parameters[self._checked])
            received = [await receive()]
            body = received[0].get("body", b"")
            while received[-1].get("more_body") and len(body) <= self._max_bytes:
                received.append(await receive())
                body += received[-1].get("body", b"")
            if received[-1]["type"] != "http.request" or len(body) > self._max_bytes:
                return received
            try:
                parameters["data"] = self._decoder.decode(body)
            except DECODE_ERRORS:
                return received
            response = await self._call(**parameters)
        except Exception as error:
            response = self._exception_handler(error)(Request(scope, receive, send), error)
        if _is_plain(response):
            await self._send(response, send)
        else:
            asked = Request[Any, Any, Any](scope, receive, send)
            whole = response.to_asgi_response(None, asked, status_code=self._status, type_encoders=self._type_encoders)
            await whole(scope, receive, send)
        return None

    def _parameters(self, scope: HTTPScope) -> dict[str, Any] | None:
        """Return the header values by the names of the handler's parameters; a missing header is None.

        Returns None, not a dict, if such a header is repeated or does not match its pattern.
        """
        parameters: dict[str, Any] = self._missing.copy()
        for name, value in scope["headers"]:
            header = self._headers.get(name)
            if header is not None:
                text = value.decode("latin-1")
                if parameters[header.parameter] is not None or not header.pattern.search(text):
                    return None
                parameters[header.parameter] = text
        return parameters

    def _exception_handler(self, error: Exception) -> Callable[[Request[Any, Any, Any], Any], Response[Any]]:
        handlers = self._exception_handlers
        return next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)

    async def _send(self, response: Response[Any], send: Send) -> None:
        content = response.content
        body = content if isinstance(content, bytes) else self._encode(content)
        head = [
            (b"content-type", (response.media_type or "application/json").encode()),
            (b"content-length", b"%d" % len(body)),
            *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()),
        ]
        await send({"type": "http.response.start", "status": response.status_code or self._status, "headers": head})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _is_plain(response: Response[Any]) -> bool:
    """Whether the response has only what a fast path sends by itself: content, media type, headers and status."""
    more = response.background or response.cookies or response.response_type_encoders
    return type(response) is Response and not more


def fast_paths(app: Litestar) -> dict[tuple[str, str], FastPath]:
    """Make the fast paths of all routes that ask for one in their `opt`, by (method, path). Raises FastPathRefused."""
    return {
        (method, route.path): FastPath(route, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.opt.get(FAST_PATH)
        for method in handler.http_methods
        if method != "OPTIONS"  # Litestar answers these itself
    }


def replay(received: Sequence[Any], receive: Receive) -> Receive:
    """Return a `receive` that gives the messages received already, one a call, then those that `receive` gives."""
    left = list(received)

    async def next_one() -> Any:
        return left.pop(0) if left else await receive()

    return next_one
