"""Gives each POST request a RequestSpan, and hands it to the tracer once the app is done, if it then has a key.

The request's handler sets the key: that of the facts that the request is about (`request_is_about`).
"""

from typing import Any

from contracts.spans import nanoseconds
from infra.core.writer import Clock
from infra.request_span import RequestSpan, current, parse_traceparent
from infra.tracing.tracer import Tracer


class TracedApp:
    """An ASGI app around that of a service. All but POST requests are passed on untraced."""

    def __init__(self, app: Any, tracer: Tracer, clock: Clock) -> None:
        self._app = app
        self._tracer = tracer
        self._clock = clock

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        found = [value for name, value in scope["headers"] if name == b"traceparent"]
        caller = parse_traceparent(found[0]) if len(found) == 1 else None
        request = RequestSpan(nanoseconds(self._clock()), caller)
        status = 500

        async def watch(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        token = current.set(request)
        try:
            await self._app(scope, receive, watch)
        finally:
            current.reset(token)
            if request.key:
                self._tracer.answered(request, scope["method"], scope.get("path_template") or scope["path"], status)
