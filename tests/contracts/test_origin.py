"""A message is a service's if it has all that a relay gives its facts; everything else is foreign, whatever it is."""

from collections.abc import Mapping
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts import Fact
from contracts.origin import ForeignMessage, Origin, header, heard_id, number, origin
from contracts.wire import MSG_ID, NAMES, POSITION, STREAM, VERSION, encode, header_value, message_id, subject
from tests.contracts.examples import EXAMPLES, NO_IDS
from tests.examples import points_used

FACT = points_used()
HEADERS = {MSG_ID: f"{FACT.stream}@7", STREAM: FACT.stream, VERSION: "7", POSITION: "12"}
SUBJECT = subject(NAMES[type(FACT)], encode(FACT))


def raw(headers: Mapping[str, str]) -> bytes:
    return "".join(["NATS/1.0\r\n", *(f"{name}: {value}\r\n" for name, value in headers.items()), "\r\n"]).encode()


def where(**changed: str) -> Origin:
    headers = {name: value for name, value in {**HEADERS, **changed}.items() if value}
    return origin(SUBJECT, headers.get(MSG_ID, ""), raw(headers), encode(FACT))


@pytest.mark.parametrize("fact", EXAMPLES, ids=lambda fact: NAMES[type(fact)])
def test_a_relays_message_has_its_place(fact: Fact) -> None:
    body, its_id = encode(fact), message_id(fact.stream, 3)
    head = raw({MSG_ID: its_id, STREAM: fact.stream, VERSION: "3", POSITION: "5"})

    assert origin(subject(NAMES[type(fact)], body), its_id, head, body) == Origin(fact.stream, 3, 5)
    assert heard_id(fact, subject(NAMES[type(fact)], body), its_id, head) == its_id


@pytest.mark.parametrize("key", NO_IDS, ids=ascii)
@pytest.mark.parametrize("fact", EXAMPLES, ids=lambda fact: NAMES[type(fact)])
def test_a_fact_whose_key_is_no_id_is_heard_under_the_subject_of_its_digest(fact: Fact, key: str) -> None:
    """Older code recorded such keys, and a relay publishes them."""
    odd = replace(fact, **{fact.key_field: key})
    body, its_id = encode(odd), message_id(odd.stream, 3)
    head = raw({MSG_ID: its_id, STREAM: header_value(odd.stream), VERSION: "3", POSITION: "5"})
    published_on = subject(NAMES[type(odd)], body)

    assert heard_id(odd, published_on, its_id, head) == f"{odd.stream}@3"
    with pytest.raises(ForeignMessage, match="does not fit its subject"):
        heard_id(odd, f"{NAMES[type(odd)]}.{key}", its_id, head)
    with pytest.raises(ForeignMessage, match="does not fit its subject"):
        heard_id(fact, published_on, its_id, head)


def test_a_fact_of_newer_code_has_its_place() -> None:
    head = raw({MSG_ID: "gift-1@1", STREAM: "gift-1", VERSION: "1", POSITION: "5"})

    assert origin("point.given.1", "gift-1@1", head, b'{"type":"point.given"}') == Origin("gift-1", 1, 5)


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("value", ["", "x", "-1", "0", "7.0", "٧", "²", "9" * 5_000, "1e3", "007", " 7"], ids=ascii)
def test_without_one_of_the_headers_it_is_foreign(name: str, value: str) -> None:
    with pytest.raises(ForeignMessage):
        where(**{name: value})


@pytest.mark.parametrize(
    "body", [b"", b"garbage", b"\xff", b"[]", b'{"type":1}', b"[" * 100_000, b'{"type":"\\ud800"}']
)
def test_a_body_that_is_no_fact_is_foreign(body: bytes) -> None:
    with pytest.raises(ForeignMessage, match="does not fit its subject"):
        origin(SUBJECT, HEADERS[MSG_ID], raw(HEADERS), body)


@pytest.mark.parametrize("published_on", ["point.used", "point.used.other", "point.refunded.0195c0ffee", "", "a.b.c.d"])
def test_a_body_under_another_subject_is_foreign(published_on: str) -> None:
    with pytest.raises(ForeignMessage, match="does not fit its subject"):
        origin(published_on, HEADERS[MSG_ID], raw(HEADERS), encode(FACT))
    with pytest.raises(ForeignMessage, match="does not fit its subject"):
        heard_id(FACT, published_on, HEADERS[MSG_ID], raw(HEADERS))


@settings(deadline=None)
@given(st.text(), st.text(), st.binary(), st.binary())
def test_whatever_it_is_it_is_foreign_and_no_error(published_on: str, its_id: str, head: bytes, body: bytes) -> None:
    with pytest.raises(ForeignMessage):
        origin(published_on, its_id, head, body)
    with pytest.raises(ForeignMessage):
        heard_id(FACT, published_on, its_id, head)


def test_a_fact_is_heard_by_its_own_id() -> None:
    """Also under a fresh Nats-Msg-Id: `orders replay --fresh-ids` gives its messages one."""
    assert heard_id(FACT, SUBJECT, HEADERS[MSG_ID], raw(HEADERS)) == f"{FACT.stream}@7"
    replayed = {**HEADERS, MSG_ID: "replay-1@9"}
    assert heard_id(FACT, SUBJECT, "replay-1@9", raw(replayed)) == f"{FACT.stream}@7"
    del replayed[POSITION]  # as `orders replay --fresh-ids` leaves it out
    assert heard_id(FACT, SUBJECT, "replay-1@9", raw(replayed)) == f"{FACT.stream}@7"
    for its_id in ("", "replay-1@9", HEADERS[MSG_ID], "account-eve@1", f"{FACT.stream}@x", FACT.stream):
        with pytest.raises(ForeignMessage, match="lacks the headers"):
            heard_id(FACT, SUBJECT, its_id, b"")


FORMS: Final = (
    "",
    "order-1",
    "account-eve",
    FACT.stream,
    f"{FACT.stream}@7",
    "account-eve@7",
    "7",
    "0",
    "07",
    "8",
    "x@1",
)


@settings(deadline=None, max_examples=300)
@given(st.fixed_dictionaries({name: st.sampled_from([HEADERS[name], *FORMS]) for name in HEADERS}), st.booleans())
def test_what_the_audit_calls_foreign_no_service_hears(headers: dict[str, str], more: bool) -> None:
    """Half of what a relay gives is enough for neither, whichever half it is, and in whichever form it is read."""
    head = raw({**({"traceparent": "00-1"} if more else {}), **{name: its for name, its in headers.items() if its}})
    message = SUBJECT, headers[MSG_ID], head
    try:
        where = origin(*message, encode(FACT))
    except ForeignMessage:
        with pytest.raises(ForeignMessage):
            heard_id(FACT, *message)
        return
    if where.stream == FACT.stream:
        assert heard_id(FACT, *message) == where.fact_id
    else:
        with pytest.raises(ForeignMessage, match="does not fit its Fact-Stream"):
            heard_id(FACT, *message)


def test_the_first_of_two_headers_counts_and_bytes_that_are_no_text_are_replaced() -> None:
    head = b"NATS/1.0\r\nA: 1\r\nA: 2\r\nB: \xff\r\n\r\n"

    assert (header(head, b"A"), header(head, b"B"), header(head, b"C")) == ("1", "\N{REPLACEMENT CHARACTER}", "")
    assert number("17") == 17
