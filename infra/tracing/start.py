"""Begins the tracing of a service, if it is asked for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from infra.consuming.dead_letters import DeadLetters
from infra.core.writer import Clock, Writer
from infra.http.server import Server
from infra.metrics import Labels, Metrics
from infra.settings import Settings, SettingsError
from infra.tracing.collector import ENDPOINT, TRACES_ENDPOINT
from infra.tracing.requests import TracedApp
from infra.tracing.tracer import Tracer

INSTALL = "`uv sync --inexact --extra otel` installs it"


def check_installed(what: str) -> None:
    """Raise SettingsError if OpenTelemetry's library is not installed.

    `what` begins the error's message, up to and with the verb: who needs the library, such as
    "`orders trace --otlp URL` needs".
    """
    try:
        import infra.tracing.otel  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(f"{what} OpenTelemetry ({error.name}), which is not installed: {INSTALL}") from None


@contextlib.asynccontextmanager
async def traced(
    service: str,
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    *,
    writer: Writer,
    dead_letters: DeadLetters,
    server: Server,
) -> AsyncIterator[None]:
    """Trace what the service records and answers in the block; at its end, wait at most 2 s for the last spans.

    `metrics` get a count of spans sent, failed and dropped. Without an address of a collector nothing is traced.
    Raises SettingsError if the library is not installed, or one of OpenTelemetry's variables cannot be used.
    """
    used = TRACES_ENDPOINT if settings.otel_exporter_otlp_traces_endpoint else ENDPOINT
    if not (settings.otel_exporter_otlp_traces_endpoint or settings.otel_exporter_otlp_endpoint):
        _export(metrics, lambda: (0, 0, 0))
        yield
        return
    check_installed(f"{used} is set, and traces need")
    from infra.tracing import json_exporter, otel  # noqa: PLC0415 - an extra

    sender = otel.SpanSender(service, json_exporter.JsonExporter())
    _export(metrics, lambda: (sender.sent, sender.failed, sender.dropped))
    tracer = Tracer(service, settings.otel_traces_sampler_arg, sender.send, clock)
    writer.on_settled.append(tracer.recorded)
    dead_letters.on_given_up = tracer.dead_letter
    server.config.app = TracedApp(server.config.app, tracer, clock)
    try:
        yield
    finally:
        await asyncio.to_thread(sender.close)


def _export(metrics: Metrics, counts: Callable[[], tuple[int, int, int]]) -> None:
    def read() -> Mapping[Labels, float]:
        return dict(zip([("sent",), ("failed",), ("dropped",)], counts(), strict=True))

    metrics.counters_of(
        "saga_spans_total", "Spans by their outcome: `dropped`: too many waited to be sent.", ("outcome",), read
    )
