"""Spans over HTTP as JSON: to where OpenTelemetry's variables say, and in words why not."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from contracts.spans import order_spans
from infra.local.ports import free_ports
from infra.settings import SettingsError
from infra.tracing.json_exporter import MOST_ANSWERED, JsonExporter, OwnSpan
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


def test_a_header_with_a_line_feed_at_its_end_is_sent_without_it(taking: Collector) -> None:
    exporter = JsonExporter({"OTEL_EXPORTER_OTLP_ENDPOINT": taking.url, "OTEL_EXPORTER_OTLP_HEADERS": "key=s3cr3t%0A"})

    assert exporter.export(spans()) is SpanExportResult.SUCCESS

    exporter.shutdown()
    assert taking.headers["key"] == "s3cr3t"


@pytest.mark.parametrize("header", ["key=s3%0Acr3t", "key=s3%00cr3t", "a%20key=s3cr3t", "=s3cr3t", "k=s3cr3t%EA%B0%80"])
def test_a_header_that_cannot_be_sent_is_no_setting_and_its_value_stays_secret(header: str) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_HEADERS": header}

    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_HEADERS") as caught:
        JsonExporter(env)

    assert "cr3t" not in str(caught.value)


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


def test_an_answer_without_an_end_is_not_read_to_its_end() -> None:
    sent = 0

    class Endless(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal sent
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while sent < 64 * MOST_ANSWERED:
                    sent += self.wfile.write(bytes(MOST_ANSWERED))

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        exporter = JsonExporter({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}"})

        assert exporter.export(spans()) is SpanExportResult.SUCCESS

        exporter.shutdown()
        server.shutdown()
        serving.join()
    assert sent < 64 * MOST_ANSWERED


def test_what_the_variables_say_of_the_service_is_sent(taking: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=night,service.name=other")
    exporter = JsonExporter({"OTEL_EXPORTER_OTLP_ENDPOINT": taking.url})

    exporter.export(spans())

    exporter.shutdown()
    told = [one["resource"]["attributes"] for one in json.loads(taking.body)["resourceSpans"]]
    night = {"key": "deployment.environment.name", "value": {"stringValue": "night"}}
    assert [night in attributes for attributes in told] == [True, True]
    assert {span.service for span in taking.spans} == {"order_svc", "product_svc"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:port"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://:4318"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://:4318/v1/traces"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "nan"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "inf"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "0"},
        {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/none/such.pem"},
        {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(Path(__file__))},
    ],
)
def test_a_variable_that_cannot_be_used_is_named(wrong: dict[str, str]) -> None:
    named = next(iter(wrong)) if "ENDPOINT" in next(iter(wrong)) else "OTEL_EXPORTER_OTLP_"
    with pytest.raises(SettingsError, match=named):
        JsonExporter({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"} | wrong)
