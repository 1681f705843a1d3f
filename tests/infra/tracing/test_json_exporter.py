"""Spans over HTTP as JSON: to where OpenTelemetry's variables say, and in words why not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from contracts.spans import order_spans
from infra.local.ports import free_ports
from infra.settings import SettingsError
from infra.tracing.json_exporter import JsonExporter, OwnSpan
from infra.tracing.otel import readable, resource
from tests.collector import Collector, collector
from tests.contracts.test_spans import recorded
from tests.examples import product_reserved


@pytest.fixture
def taking() -> Iterator[Collector]:
    with collector() as found:
        yield found


def spans() -> list[OwnSpan]:
    made = order_spans([recorded(product_reserved(), "reservation-o@1")])
    return [readable(span, resource(span.service)) for span in made]


def test_a_collector_gets_the_spans(taking: Collector) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{taking.url}/", "OTEL_EXPORTER_OTLP_HEADERS": "a=b%20c,d=e"}
    exporter = JsonExporter(env)

    assert exporter.export(spans()) is SpanExportResult.SUCCESS

    exporter.shutdown()
    assert sorted(span.name for span in taking.spans) == ["order", "process"]
    headers = taking.headers
    assert (headers["a"], headers["d"], headers["content-type"]) == ("b c", "e", "application/json")


def test_the_variable_for_traces_alone_is_the_whole_address(taking: Collector) -> None:
    exporter = JsonExporter({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{taking.url}/other"})

    exporter.export(spans())

    exporter.shutdown()
    assert (taking.requests, taking.path) == (1, "/other")


def test_a_refusal_says_what_was_answered(taking: Collector) -> None:
    taking.refuses = 503
    exporter = JsonExporter({"OTEL_EXPORTER_OTLP_ENDPOINT": taking.url})

    assert exporter.export(spans()) is SpanExportResult.FAILURE

    exporter.shutdown()
    assert (exporter.why, taking.requests) == (f"{taking.url}/v1/traces answered 503", 1)


def test_a_collector_that_is_not_there_is_said(taking: Collector) -> None:
    exporter = JsonExporter({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_ports(1)[0]}"})

    assert exporter.export(spans()) is SpanExportResult.FAILURE

    exporter.shutdown()
    assert exporter.why.startswith("ConnectError: ")


@pytest.mark.parametrize(
    "wrong",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:port"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
        {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/none/such.pem"},
        {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(Path(__file__))},
    ],
)
def test_a_variable_that_cannot_be_used_is_named(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_"):
        JsonExporter({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"} | wrong)
