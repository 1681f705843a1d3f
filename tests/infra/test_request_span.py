"""What a client says of its own trace in `traceparent` (W3C Trace Context); what is not valid counts as not said."""

import pytest

from contracts.spans import SpanContext, root, trace_id
from infra.request_span import Caller, RequestSpan, current, parse_traceparent, request_is_about

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_a_valid_one(value: str, recorded: bool) -> None:
    assert parse_traceparent(value.encode()) == Caller(SpanContext(int(TRACE, 16), int(SPAN, 16)), recorded)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}x-{SPAN}-01",
        "00-" + "é" * 32 + f"-{SPAN}-01",
    ],
)
def test_one_that_is_not(value: str) -> None:
    assert parse_traceparent(value.encode()) is None


def test_a_request_is_in_its_clients_trace() -> None:
    request = RequestSpan(1, Caller(SpanContext(5, 6), is_recorded=True))

    request.is_about("o1", apart=True)

    assert request.span is not None
    assert (request.span.trace_id, request.parent) == (5, 6)


def test_a_request_without_a_client_is_in_the_keys_trace_or_in_one_of_its_own() -> None:
    beside, apart = RequestSpan(1, None), RequestSpan(1, None)
    token = current.set(beside)
    request_is_about("o1")
    current.reset(token)

    apart.is_about("o1", apart=True)

    assert beside.span is not None
    assert (beside.span.trace_id, beside.parent) == root("o1")
    assert apart.span is not None
    assert (apart.span.trace_id == trace_id("o1"), apart.parent) == (False, None)


def test_two_requests_about_one_key_have_two_spans() -> None:
    one, other = RequestSpan(1, None), RequestSpan(1, None)
    one.is_about("o1", apart=False)
    other.is_about("o1", apart=False)

    assert one.span != other.span


def test_a_client_that_records_nothing_is_no_reason_to_record() -> None:
    request = RequestSpan(1, Caller(SpanContext(5, 6), is_recorded=False))

    request.is_about("o1", apart=False)

    assert request.span is None
