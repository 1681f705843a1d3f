"""The request that the code at hand works for, as tracing sees it: its span in a trace (contracts.spans).

Without tracing no request has a span, and `request_is_about` and `current` cost one look into a context variable.
"""

import random
import re
from contextvars import ContextVar
from typing import Final, NamedTuple

from contracts.spans import SpanContext, root, trace_id

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Caller(NamedTuple):
    """The span of the client that sent a request, and whether the client records it."""

    span: SpanContext
    is_recorded: bool


def parse_traceparent(value: bytes) -> Caller | None:
    """Return the caller that a `traceparent` (W3C Trace Context) names; None if the value is not valid."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5] is not None):
        return None
    span = SpanContext(int(match[2], 16), int(match[3], 16))
    return Caller(span, bool(int(match[4], 16) & 1)) if span.trace_id and span.span_id else None


class RequestSpan:
    """The span of one request, once `is_about` has said what the request is about; until then `span` is None.

    `span` is the context of the request's span, and `parent` the id of the parent span in the same trace, None for a
    root. `key` is the key of the facts that the request is about. `span` stays None if the client does not record its
    trace.
    """

    __slots__ = ("_caller", "key", "parent", "span", "start_ns")

    def __init__(self, start_ns: int, caller: Caller | None) -> None:
        self.start_ns = start_ns
        self._caller = caller
        self.key = ""
        self.span: SpanContext | None = None
        self.parent: int | None = None

    @property
    def has_caller(self) -> bool:
        return self._caller is not None

    def is_about(self, key: str, *, apart: bool) -> None:
        """Set `key`, `span` and `parent`.

        The span is in the caller's trace; None if the client does not record that trace. Without a caller the span is
        in the trace of the key, or with `apart` in a new one.
        """
        self.key = key
        number = random.getrandbits(64) or 1
        if self._caller is not None:
            span, is_recorded = self._caller
            self.span = SpanContext(span.trace_id, number) if is_recorded else None
            self.parent = span.span_id
        elif apart:
            self.span = SpanContext(random.getrandbits(128) or 1, number)
        else:
            self.span, self.parent = SpanContext(trace_id(key), number), root(key).span_id


current: Final[ContextVar[RequestSpan | None]] = ContextVar("current", default=None)


def request_is_about(key: str, *, apart: bool = False) -> None:
    """Call `is_about` of the request that the code at hand works for; do nothing if it has no RequestSpan.

    With tracing every POST request has one, and no other request.
    """
    request = current.get()
    if request is not None:
        request.is_about(key, apart=apart)
