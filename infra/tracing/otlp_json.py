"""Encodes spans as OTLP's JSON, which collectors take over HTTP, and Jaeger's page from a file. Ids are hexadecimal."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from contracts.spans import SCHEMA_URL, SCOPE, Attributes, Span

LOCAL: Final = 0x101
"""OTLP's flags of a span that is sampled, and whose parent, or the other end of a link, is not remote."""
REMOTE: Final = 0x301

_encode = msgspec.json.Encoder().encode


def as_otlp(spans: Sequence[Span], common: Attributes = MappingProxyType({})) -> bytes:
    """Return the spans as one line of OTLP's JSON, without a line feed; collectors and Jaeger's page read it.

    `common`: attributes that every service of these spans has besides its name.
    """
    services = dict.fromkeys(span.service for span in spans)
    return _encode(
        {
            "resourceSpans": [
                {
                    "resource": {
                        "attributes": _attributes(
                            {**common, "service.namespace": SCOPE, "service.name": f"{service}_svc"}
                        )
                    },
                    "scopeSpans": [
                        {
                            "scope": {"name": SCOPE},
                            "spans": [_span(span) for span in spans if span.service == service],
                            "schemaUrl": SCHEMA_URL,
                        }
                    ],
                    "schemaUrl": SCHEMA_URL,
                }
                for service in services
            ]
        }
    )


def _span(span: Span) -> dict[str, Any]:
    return {
        "traceId": f"{span.context.trace_id:032x}",
        "spanId": f"{span.context.span_id:016x}",
        "parentSpanId": "" if span.parent is None else f"{span.parent:016x}",
        "flags": REMOTE if span.has_remote_parent else LOCAL,
        "name": span.name,
        "kind": span.kind.value,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
        "events": [
            {"timeUnixNano": str(event.at_ns), "name": event.name, "attributes": _attributes(event.attributes)}
            for event in span.events
        ],
        "links": [
            {
                "traceId": f"{link.trace_id:032x}",
                "spanId": f"{link.span_id:016x}",
                "flags": REMOTE if span.is_remote(link) else LOCAL,
            }
            for link in span.links
        ],
        "status": {} if span.error is None else {"code": 2, "message": span.error},
    }


def _attributes(attributes: Attributes) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: str | int | bool) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
    return {"stringValue": value}
