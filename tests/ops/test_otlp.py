"""`orders trace --otlp` without a broker: what it prints is what it would send, and which orders are slow."""

import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from contracts import Fact
from contracts.spans import Span
from contracts.wire import MSG_ID, NAMES, POSITION, STREAM, VERSION, encode
from infra.local.services import ROOT
from infra.tracing.otel import readable, resource
from infra.tracing.otlp_json import as_otlp
from ops import otlp, reading, trace
from ops.errors import Unreachable, Unusable
from tests.collector import TakenSpan, collector, read, read_json
from tests.examples import PLACED_AT, order_canceled, order_confirmed, order_created, product_reserved, stock_held

CAUSE = "order-0195c0ffee@1"


def message(sequence: int, fact: Fact, version: int = 1) -> reading.Read:
    """A fact as the relay publishes it."""
    its_id = f"{fact.stream}@{version}"
    head = f"NATS/1.0\r\n{MSG_ID}: {its_id}\r\n{STREAM}: {fact.stream}\r\n{VERSION}: {version}\r\n{POSITION}: 1\r\n\r\n"
    subject = f"{NAMES[type(fact)]}.{getattr(fact, fact.key_field)}"
    return reading.Read(sequence, subject, its_id, encode(fact), head.encode(), sequence * 1_000)


def an_order() -> list[Span]:
    facts: list[Fact] = [replace(stock_held(), cause=CAUSE), replace(product_reserved(), cause=CAUSE)]
    canceled = order_canceled("deadline-exceeded", cause=CAUSE)
    return otlp.spans_of(
        [message(1, order_created()), *(message(n, fact) for n, fact in enumerate(facts, 2)), message(4, canceled, 2)]
    )


def sent(spans: Sequence[Span]) -> list[TakenSpan]:
    """As a collector takes them from the library's exporter."""
    made = [readable(span, resource(span.service)) for span in spans]
    return sorted(read(encode_spans(made).SerializeToString()))


def printed(line: bytes) -> list[TakenSpan]:
    """As a collector takes them from a file."""
    return sorted(read_json(line))


def test_what_is_printed_is_what_would_be_sent() -> None:
    spans = an_order()

    assert {span.name for span in spans} == {"order", "process order.created.pending", "expire order", "deadline"}
    assert printed(as_otlp(spans)) == sent(spans)


def test_times_are_printed_as_sent() -> None:
    spans = an_order()
    document = msgspec.json.decode(as_otlp(spans))
    times = {
        (span["spanId"], int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"]))
        for service in document["resourceSpans"]
        for scope in service["scopeSpans"]
        for span in scope["spans"]
    }

    assert times == {(f"{span.context.span_id:016x}", span.start_ns, span.end_ns) for span in spans}


def test_a_fact_of_newer_code_is_a_span_too() -> None:
    body = encode(product_reserved()).replace(b'"product.reserved"', b'"product.wrapped"')
    known = message(2, product_reserved())

    (span, _) = otlp.spans_of([known._replace(subject="product.wrapped.0195c0ffee", body=body)])

    assert span.attributes["saga.fact"] == "product.wrapped"


@pytest.mark.parametrize("field", [b'"order_id":null', b'"reason":7', b'"reason":{"is":"new"}'])
def test_whatever_a_trace_shows_as_a_fact_can_be_exported(field: bytes) -> None:
    body = encode(product_reserved()).replace(b'"product.reserved"', b'"product.wrapped"')[:-1] + b",%b}" % field
    shown = message(2, product_reserved())._replace(subject="product.wrapped.0195c0ffee", body=body)
    assert not trace._is_foreign(shown)

    assert otlp.spans_of([shown])[0].attributes["saga.fact"] == "product.wrapped"


# Slow orders --------------------------------------------------------------------------------------------------------


def ended(sequence: int, seconds: float, version: int = 2) -> reading.Read:
    fact = replace(order_confirmed(order_id=f"o{sequence}"), at=PLACED_AT + timedelta(seconds=seconds))
    return message(sequence, fact, version)


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> list[reading.Read]:
    messages: list[reading.Read] = []

    async def chunks(_: object, subjects: Sequence[str], **where: object) -> AsyncIterator[list[reading.Read]]:
        assert (subjects, where) == (["order.confirmed.*", "order.canceled.*"], {"first": PLACED_AT})
        yield messages
        yield []

    monkeypatch.setattr(reading, "chunks", chunks)
    return messages


async def slow(most: int = 100) -> tuple[list[str], int]:
    return await otlp.slow_orders(cast(reading.Stream, None), PLACED_AT, most)


async def test_the_slowest_hundredth_is_found_slowest_first(history: list[reading.Read]) -> None:
    history += [ended(n, 0.01 * n) for n in range(1, 301)]

    assert await slow() == (["o300", "o299", "o298"], 300)
    assert await slow(most=2) == (["o300", "o299"], 300)


async def test_of_few_orders_the_slowest_is_slow(history: list[reading.Read]) -> None:
    assert await slow() == ([], 0)
    history.append(ended(1, 3))
    assert await slow() == (["o1"], 1)
    history.append(ended(2, 4))
    assert await slow() == (["o2"], 2)


async def test_a_cancel_after_the_confirmation_and_a_foreign_message_are_no_end(history: list[reading.Read]) -> None:
    history += [ended(1, 3), ended(2, 9_000, version=3), ended(3, 9_000)._replace(head=b""), ended(4, 2)]

    assert await slow() == (["o1"], 2)


# Words --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318?tenant=a", "http://127.0.0.1:4318/v1/traces?tenant=a"),
        ("https://collector.example/otlp/v1/traces", "https://collector.example/otlp/v1/traces"),
        (otlp.FROM_ENVIRONMENT, None),
    ],
)
def test_where_spans_go(given: str, url: str | None) -> None:
    assert otlp.endpoint(given, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}) == url


@pytest.mark.parametrize(
    "given",
    ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", "0195c0ffee", "http://[::1", "http://a:99999", "http://a:b"],
)
def test_what_is_no_address_is_said(given: str) -> None:
    with pytest.raises(Unusable, match=r"no address of a collector, such as http://127\.0\.0\.1:4318"):
        otlp.endpoint(given, {})


def test_a_password_in_a_wrong_address_is_not_shown() -> None:
    with pytest.raises(Unusable) as refused:
        otlp.endpoint("grpc://ann:s3cr3t@127.0.0.1:4317", {})

    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize("env", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": " "}])
def test_without_an_address_the_ways_to_give_one_are_named(env: dict[str, str]) -> None:
    with pytest.raises(Unusable, match="OTEL_EXPORTER_OTLP_ENDPOINT names one, `--otlp -` prints the trace"):
        otlp.endpoint(otlp.FROM_ENVIRONMENT, env)


def test_the_variables_have_their_names_once() -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        modules = [path for room in ("infra", "ops") for path in (ROOT / room).rglob("*.py")]
        assert [path.name for path in modules if f'"{name}"' in path.read_text()] == ["collector.py"]


def asked(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(trace.command, arguments)
    return found.exit_code, " ".join(found.output.replace("│", " ").split())


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("o1", "--slow", "--otlp", "-"),
        ("--slow",),
        ("o1", "--since", "1h"),
        ("o1", "--json", "--otlp", "-"),
        ("--slow", "--otlp", "-", "--since", "soon"),
        ("--slow", "--otlp", "-", "--most", "0"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_read(arguments: tuple[str, ...]) -> None:
    assert asked(*arguments)[0] == 2


def test_a_missing_library_is_named_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("opentelemetry", "infra.tracing.otel"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    code, said = asked("o1", "--otlp", "http://127.0.0.1:1")

    assert code == 2
    assert "which is not installed: `uv sync --inexact --extra otel` installs it" in said


def test_how_long_ago_needs_no_minus() -> None:
    hour = timedelta(hours=1)

    assert abs(otlp.Since().convert("1h", None, None) - (datetime.now(UTC) - hour)) < hour
    assert otlp.Since().convert("2026-01-31T09:00:00Z", None, None) == datetime(2026, 1, 31, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "path"), [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/other"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "/v1/traces")]
)
def test_a_collector_that_a_variable_names_is_said_when_it_refuses(
    monkeypatch: pytest.MonkeyPatch, name: str, path: str
) -> None:
    with collector() as taking:
        taking.refuses = 400
        monkeypatch.setenv(name, taking.url + (path if "TRACES" in name else ""))

        with pytest.raises(Unreachable, match=f"the collector at {taking.url}{path} did not take the spans"):
            otlp.send(None, an_order())
