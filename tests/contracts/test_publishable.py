"""What can be recorded can be published and heard: ids, counts and sizes are bounded, every subject is one of NATS."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts import MOST, Fact, Line, PointUsed, SagaFact
from contracts.wire import HEADER_BYTES, MAX_BYTES, NAMES, decode, encode, flaw, header_value, stream_of, subject
from tests.contracts.examples import EXAMPLES, NO_IDS, of_a_user
from tests.examples import ORDER, order_confirmed, points_used, stock_held

TOKENS = re.compile(r"[a-z]+(\.[a-z]+)+\.[A-Za-z0-9_~-]{1,64}\Z")


def changed(fact: Fact, **fields: Any) -> bytes:
    return json.dumps({**json.loads(encode(fact)), **fields}).encode()


@pytest.mark.parametrize("fact", EXAMPLES, ids=lambda fact: NAMES[type(fact)])
def test_every_fact_can_be_published(fact: Fact) -> None:
    assert flaw(fact, encode(fact)) is None


@pytest.mark.parametrize("key", NO_IDS, ids=ascii)
@pytest.mark.parametrize("fact", EXAMPLES, ids=lambda fact: NAMES[type(fact)])
def test_a_key_that_is_no_id_is_a_flaw(fact: Fact, key: str) -> None:
    odd = replace(fact, **{fact.key_field: key})

    assert "is no id" in str(flaw(odd, encode(odd)))


@pytest.mark.parametrize("user", NO_IDS, ids=ascii)
def test_a_stream_without_an_id_is_a_flaw(user: str) -> None:
    odd = of_a_user(replace(ORDER, user_id=user))

    assert "has no id in it" in str(flaw(odd, encode(odd)))


@pytest.mark.parametrize("count", [-1, MOST + 1, 10**30])
def test_a_count_out_of_bounds_is_a_flaw(count: int) -> None:
    for odd in (replace(order_confirmed(), amount_due=count), replace(stock_held(), quantity=count)):
        assert "is not from 0" in str(flaw(odd, encode(odd)))


def test_a_fact_that_leaves_no_room_for_its_headers_is_a_flaw() -> None:
    order = replace(ORDER, lines=tuple(Line(f"{n:064}", 1) for n in range(1_000)))
    body = encode(large := replace(points_used(), order=order))

    assert "bytes, and the broker takes 64,512" in str(flaw(large, body))
    assert flaw(large, body, len(body) + HEADER_BYTES) is None
    assert "64,512" in str(flaw(points_used(), bytes(MAX_BYTES - HEADER_BYTES + 1)))


@pytest.mark.parametrize(
    "field",
    [
        {"points": -1},
        {"points": MOST + 1},
        {"points": 10**30},
        {"total": -1},
        {"unit_prices": [-1]},
        {"at": "2026-01-01T00:00:00"},
        {"order": {**json.loads(encode(points_used()))["order"], "placed_at": "2026-01-01T00:00:00"}},
        {"order": {**json.loads(encode(points_used()))["order"], "points": -1}},
        {"order": {**json.loads(encode(points_used()))["order"], "lines": [{"product_id": "mug", "quantity": -1}]}},
    ],
    ids=str,
)
def test_a_body_that_breaks_the_contract_is_not_decoded(field: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(changed(points_used(), **field))


@settings(deadline=None)
@given(st.text())
def test_whatever_was_recorded_has_a_subject_that_nats_takes(key: str) -> None:
    """Older code recorded keys that are no ids: their facts, and all after them, have to get into the stream."""
    for fact in (points_used(), stock_held()):
        odd = replace(fact, **{fact.key_field: key})
        assert TOKENS.match(subject(NAMES[type(odd)], encode(odd)))


@settings(deadline=None)
@given(st.text())
def test_the_name_of_a_stream_goes_through_a_header_and_back(text: str) -> None:
    value = header_value(f"order-{text}")

    assert re.fullmatch(r"[A-Za-z0-9_%-]+", value)
    assert stream_of(value) == f"order-{text}"


def test_names_with_ids_travel_as_they_are() -> None:
    for fact in EXAMPLES:
        assert header_value(fact.stream) == fact.stream


def test_two_keys_that_are_no_ids_have_two_subjects() -> None:
    subjects = {subject(NAMES[PointUsed], encode(replace(points_used(), order_id=key))) for key in NO_IDS}

    assert len(subjects) == len(NO_IDS)
    assert issubclass(PointUsed, SagaFact)
