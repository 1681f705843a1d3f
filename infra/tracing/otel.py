"""Turns our spans into spans of OpenTelemetry's library, and sends them.

Of infra, only this module and `json_exporter` import the library, an optional extra. So both are imported only when
they are needed. ModuleNotFoundError then says that the library is missing.
"""

import threading
from collections.abc import Sequence
from typing import Final

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from contracts import spans as ours
from infra.tracing.json_exporter import OwnSpan

logger = structlog.get_logger()

QUEUE: Final = 8_192
"""Spans that wait to be sent, at most; further ones are dropped, and counted."""
BATCH: Final = 512
EVERY_MS: Final = 1_000
"""How long a span waits to be sent with others. A process that is killed loses those that wait."""
CLOSE_S: Final = 2.0
"""How long the end of the process waits for the last spans."""

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_KINDS: Final = {
    ours.SpanKind.INTERNAL: SpanKind.INTERNAL,
    ours.SpanKind.SERVER: SpanKind.SERVER,
    ours.SpanKind.CONSUMER: SpanKind.CONSUMER,
}
_SCOPE: Final = InstrumentationScope(ours.SCOPE, schema_url=ours.SCHEMA_URL)
_UNSET: Final = Status(StatusCode.UNSET)


def resource(service: str) -> Resource:
    """Return the attributes of all spans of a service, with those of OTEL_RESOURCE_ATTRIBUTES in the environment."""
    return Resource.create({"service.namespace": ours.SCOPE, "service.name": f"{service}_svc"}, ours.SCHEMA_URL)


def _context(at: ours.SpanContext, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(at.trace_id, at.span_id, is_remote=is_remote, trace_flags=_SAMPLED)


def readable(span: ours.Span, common: Resource) -> OwnSpan:
    """Return our span as a span of the library; `common` is the `resource` of its service."""
    context, parent = _context(span.context), None
    if span.parent is not None:
        at = ours.SpanContext(span.context.trace_id, span.parent)
        parent = _context(at, is_remote=span.is_remote(at))
    made = OwnSpan(
        span.name,
        context=context,
        parent=parent,
        resource=common,
        attributes=span.attributes,
        events=[Event(event.name, event.attributes, event.at_ns) for event in span.events],
        links=[Link(_context(link, is_remote=span.is_remote(link))) for link in span.links],
        kind=_KINDS[span.kind],
        status=_UNSET if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=_SCOPE,
    )
    made.own = span
    return made


def otlp_exporter(endpoint: str | None = None) -> SpanExporter:
    """Return the library's exporter, which repeats failed requests.

    `endpoint`: the whole URL; None: OpenTelemetry's variables in the environment say where.
    """
    return OTLPSpanExporter(endpoint)


def is_sent(result: SpanExportResult) -> bool:
    return result is SpanExportResult.SUCCESS


class _Counting(SpanExporter):
    """Counts what an exporter has sent, and what it could not send."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.sent = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            if is_sent(result):
                self.sent += len(spans)
            else:
                self.failed += len(spans)
                logger.warning(
                    "spans cannot be sent and are lost, the facts are not: is a collector at "
                    "OTEL_EXPORTER_OTLP_ENDPOINT? `orders trace ID --otlp` makes a trace again",
                    spans=len(spans),
                    reason=getattr(self._inner, "why", ""),
                )
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class SpanSender:
    """Queues the spans of one service; a thread of its own sends them. `send` never waits."""

    def __init__(self, service: str, exporter: SpanExporter, queue: int = QUEUE) -> None:
        self._resource = resource(service)
        self._exporter = _Counting(exporter)
        self._queue = queue
        self._processor = BatchSpanProcessor(self._exporter, queue, EVERY_MS, min(BATCH, queue))
        self._taken = 0
        self.dropped = 0
        """Spans that found the queue full."""

    @property
    def sent(self) -> int:
        return self._exporter.sent

    @property
    def failed(self) -> int:
        """How many spans the exporter could not send."""
        return self._exporter.failed

    def send(self, span: ours.Span) -> None:
        """Queue a span. If the queue is full, drop and count this one: the library would drop an older one."""
        if self._taken - self._exporter.sent - self._exporter.failed >= self._queue:
            self.dropped += 1
            logger.warning("more spans than can be sent: some are dropped; a smaller OTEL_TRACES_SAMPLER_ARG helps")
            return
        self._taken += 1
        self._processor.on_end(readable(span, self._resource))

    def flush(self) -> None:
        """Send what is queued, and wait for that. For tests."""
        self._processor.force_flush()

    def close(self) -> None:
        """Send what is queued, for CLOSE_S at most; the rest is lost. The library alone would wait half a minute."""
        closing = threading.Thread(target=self._processor.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if closing.is_alive():
            logger.warning("the last spans could not be sent in time and are lost", waited_s=CLOSE_S)
            self._exporter.shutdown()
