"""A body is one line of readable JSON, and comes back as it went."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from contracts import Fact, PointCharged, ProductRegistered
from contracts.wire import NAMES, decode, encode, subject
from tests.contracts.examples import AT, COUPONLESS, EXAMPLES
from tests.examples import ORDER

ALL = [pytest.param(fact, id=NAMES[type(fact)]) for fact in EXAMPLES]
ALL += [pytest.param(fact, id=f"{NAMES[type(fact)]} without a coupon") for fact in COUPONLESS]


@pytest.mark.parametrize("fact", ALL)
def test_a_body_comes_back_as_the_same_fact_and_the_same_bytes(fact: Fact) -> None:
    body = encode(fact)

    assert decode(body) == fact
    assert type(decode(body)) is type(fact)
    assert encode(decode(body)) == body


@pytest.mark.parametrize("fact", ALL)
def test_a_body_is_one_line_of_json_that_says_what_when_and_why(fact: Fact) -> None:
    body = encode(fact)

    assert body.splitlines() == [body]
    fields = json.loads(body)
    assert next(iter(fields)) == "type"
    assert fields["type"] == NAMES[type(fact)]
    assert fields["cause"] == fact.cause
    assert fields["at"].endswith("Z")
    assert datetime.fromisoformat(fields["at"]) == fact.at


@pytest.mark.parametrize("fact", ALL)
def test_a_body_is_complete(fact: Fact) -> None:
    fields = json.loads(encode(fact))

    assert set(fields) == {"type", *fact.__struct_fields__}


@pytest.mark.parametrize("fact", ALL)
def test_fields_of_newer_code_are_tolerated(fact: Fact) -> None:
    newer = {**json.loads(encode(fact)), "added_later": {"deep": [1, None]}}
    if "order" in newer:
        newer["order"]["gift_wrap"] = True
        newer["order"]["lines"][0]["color"] = "red"

    assert decode(json.dumps(newer).encode()) == fact


@pytest.mark.parametrize("fact", ALL)
def test_the_subject_is_the_name_and_the_key_of_the_fact(fact: Fact) -> None:
    name = NAMES[type(fact)]

    assert subject(name, encode(fact)) == f"{name}.{getattr(fact, fact.key_field)}"


def test_a_name_of_several_lines_does_not_break_the_line() -> None:
    fact = ProductRegistered(at=AT, product_id="mug", name='한 줄\n두 줄 \u2028 "따옴표"', price=1)

    assert encode(fact).splitlines() == [encode(fact)]
    assert decode(encode(fact)) == fact


def test_korean_text_stays_readable_in_a_body() -> None:
    fact = ProductRegistered(at=AT, product_id="mug", name="머그컵", price=1)

    assert "머그컵".encode() in encode(fact)


def test_an_instant_keeps_its_microseconds() -> None:
    fact = PointCharged(at=datetime(2026, 1, 1, 0, 0, 0, 1, UTC), user_id="ann", amount=1, idempotency_key="k")

    assert decode(encode(fact)).at.microsecond == 1


def test_an_unknown_fact_is_a_validation_error() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(b'{"type":"delivery.started","at":"2026-03-01T09:30:00Z","cause":null}')


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"at":"2026-03-01T09:30:00Z"}', id="no type"),
        pytest.param(b'{"type":"point.charged","at":"2026-03-01T09:30:00Z"}', id="missing fields"),
        pytest.param(
            b'{"type":"point.charged","at":"yesterday","user_id":"a","amount":1,"idempotency_key":"k"}', id="no instant"
        ),
        pytest.param(
            b'{"type":"point.charged","at":"2026-03-01T09:30:00Z","user_id":"a","amount":"1","idempotency_key":"k"}',
            id="text for a number",
        ),
        pytest.param(
            b'{"type":"order.canceled","at":"2026-03-01T09:30:00Z","order_id":"o","order":%s,"reason":"bad-mood"}'
            % msgspec.json.encode(ORDER),
            id="a reason outside the closed set",
        ),
        pytest.param(b"[]", id="not an object"),
    ],
)
def test_a_body_that_breaks_the_contract_is_a_validation_error(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(body)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"type":"point.charged"'])
def test_a_body_that_is_not_json_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(body)
