"""A collector for tests: takes OTLP over HTTP, as the real ones do, and keeps the spans that it was sent."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

IDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})


class TakenSpan(NamedTuple):
    """A span as a collector has it."""

    trace: str
    span: str
    parent: str
    name: str
    service: str
    kind: int
    attributes: dict[str, object]
    links: tuple[tuple[str, str], ...]
    events: tuple[str, ...]
    status: int

    @property
    def place(self) -> tuple[str, str, str]:
        """Where in which tree it is."""
        return self.trace, self.span, self.parent


class Collector:
    """Listens on a free port of 127.0.0.1. `refuses`: the status that it answers instead of taking spans."""

    def __init__(self) -> None:
        self.spans: list[TakenSpan] = []
        self.refuses: int | None = None
        self.requests = 0
        self.path, self.body = "", b""
        self.headers: dict[str, str] = {}
        """Of the last request."""
        taking = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                taking.requests, taking.body = taking.requests + 1, body
                taking.path, taking.headers = self.path, {name.lower(): value for name, value in self.headers.items()}
                if taking.refuses is None and self.path == "/v1/traces":
                    is_json = self.headers["Content-Type"] == "application/json"
                    taking.spans += read_json(body) if is_json else read(body)
                self.send_response(taking.refuses or 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def of(self, order_id: str) -> list[TakenSpan]:
        """The spans of this order's trace."""
        return [span for span in self.spans if span.trace == order_id]

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    found = Collector()
    found.start()
    try:
        yield found
    finally:
        found.close()


def read(body: bytes) -> Iterator[TakenSpan]:
    """The spans of a request."""
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        common = values(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield TakenSpan(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    str(common["service.name"]),
                    span.kind,
                    values(span.attributes),
                    tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    tuple(event.name for event in span.events),
                    span.status.code,
                )


def read_json(body: bytes) -> Iterator[TakenSpan]:
    """The spans of a request in JSON, in which ids are hexadecimal (OTLP 1.0) and not base64 as protobuf's are."""
    return read(ParseDict(_in_base64(json.loads(body)), ExportTraceServiceRequest()).SerializeToString())


def _in_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_base64(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(one)).decode() if key in IDS else _in_base64(one)
        for key, one in value.items()
    }


def values(pairs: Iterable[KeyValue]) -> dict[str, object]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}
