"""The last value on either side of each limit of the contracts, and the words for what is beyond it."""

from types import ModuleType

import msgspec
import pytest
from msgspec.structs import replace

from contracts import MOST, Fact, OrderConfirmed, PointUsed, SagaFact
from contracts.ids import MAX_LENGTH, MEANING, PATTERN, ecma, is_stream
from contracts.origin import ForeignMessage, Origin, heard_id, number, origin
from contracts.step import Step
from contracts.wire import (
    HEADER_BYTES,
    MAX_BYTES,
    NAMES,
    POSITION,
    STREAM,
    VERSION,
    _facts,
    decode,
    encode,
    flaw,
    header_value,
    stream_of,
    subject,
    token,
)
from tests.contracts.examples import of_a_user
from tests.examples import NOW, order_canceled, order_confirmed, points_used, stock_held

# Ids ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["order-7", "a-b", "nocoupon-o-1", f"order-{'m' * MAX_LENGTH}"])
def test_a_category_and_an_id_name_a_stream(name: str) -> None:
    assert is_stream(name)


@pytest.mark.parametrize(
    "name", ["order", "-7", "order-", "Order-7", "order-a.b", f"order-{'m' * (MAX_LENGTH + 1)}", "o-a\n"]
)
def test_anything_else_names_no_stream(name: str) -> None:
    assert not is_stream(name)


def test_the_rule_for_ids_is_published_as_other_languages_read_it() -> None:
    assert ecma(PATTERN) == "^[A-Za-z0-9_-]{1,64}$"
    assert MEANING == "1 to 64 letters, digits, `_` or `-`"


# Messages -------------------------------------------------------------------------------------------------------------


def test_a_message_of_the_stream_has_64_kib_and_its_headers_one_of_them() -> None:
    assert (MAX_BYTES, HEADER_BYTES) == (65_536, 1_024)


def test_a_body_may_fill_what_its_headers_leave() -> None:
    fact = points_used()
    assert flaw(fact, bytes(MAX_BYTES - HEADER_BYTES)) is None
    assert flaw(fact, bytes(1_001), HEADER_BYTES + 1_000) == "it has 1,001 bytes, and the broker takes 1,000"


@pytest.mark.parametrize("count", [0, MOST])
def test_the_smallest_and_the_largest_count_are_none(count: int) -> None:
    for fact in (replace(order_confirmed(), amount_due=count), replace(stock_held(), quantity=count)):
        assert flaw(fact, encode(fact)) is None


def test_a_count_that_an_order_does_not_have_is_no_flaw_and_one_that_it_has_may_be() -> None:
    canceled = replace(order_canceled("customer-canceled"), total=None, discount=None)
    assert flaw(canceled, encode(canceled)) is None
    odd = replace(canceled, discount=-1)
    assert flaw(odd, encode(odd)) == "its discount is not from 0 to 9,007,199,254,740,991"


def test_a_flaw_names_the_field_and_shows_what_it_has_cut_short_and_in_ascii() -> None:
    def told(key: str) -> str | None:
        odd = replace(points_used(), order_id=key)
        return flaw(odd, encode(odd))

    assert told("a b") == f"its order_id 'a b' is no id: {MEANING}"
    assert told("머그") == f"its order_id '\\uba38\\uadf8' is no id: {MEANING}"
    assert told("." * 80) == f"its order_id '{'.' * 80}' is no id: {MEANING}"
    assert told("." * 81) == f"its order_id '{'.' * 80}\\u2026' is no id: {MEANING}"


def test_a_stream_without_an_id_is_named_too() -> None:
    odd = of_a_user(replace(points_used().order, user_id="a b"))
    assert flaw(odd, encode(odd)) == f"its stream 'account-a b' has no id in it: {MEANING}"


def test_a_key_that_is_no_id_is_published_under_a_part_of_its_digest() -> None:
    assert token("o-1") == "o-1"
    assert token("a b") == "~c8687a08aa5d6ed2044328fa6a697ab8"
    assert subject("point.used", b'{"user_id":"ann"}') == "point.used.~e3b0c44298fc1c149afbf4c8996fb924", "a missing id"


def test_a_stream_name_is_percent_encoded_byte_by_byte() -> None:
    assert header_value("order-a b") == "order-a%20b"
    assert header_value("order-é%") == "order-%C3%A9%25"
    assert stream_of("order-%C3%A9%25") == "order-é%"
    assert stream_of("order-%zz%2") == "order-%zz%2", "no escape of ours"
    assert stream_of("order-%FF") == "order-\N{REPLACEMENT CHARACTER}"


def test_a_fact_that_another_service_says_is_refused_where_it_is_declared() -> None:
    module = ModuleType("contracts.gift")
    odd = type("Odd", (PointUsed,), {"__module__": "contracts.gift"}, frozen=True, kw_only=True, tag="point.odd")
    vars(module)["Odd"] = odd

    with pytest.raises(TypeError, match=r"^point\.odd is declared in contracts\.gift, not in its service's module$"):
        _facts(module)


def test_a_module_declares_its_own_facts_and_neither_bases_nor_what_it_imports() -> None:
    module = ModuleType("contracts.gift")
    given = type("Given", (Fact,), {"__module__": "contracts.gift"}, frozen=True, kw_only=True, tag="gift.given")
    base = type("GiftFact", (Fact,), {"__module__": "contracts.gift"}, frozen=True, kw_only=True)
    vars(module).update(Given=given, GiftFact=base, PointUsed=PointUsed, text="text")

    assert _facts(module) == [given]


def test_a_fact_without_a_stream_says_so() -> None:
    given = type("Given", (Fact,), {}, frozen=True, kw_only=True, tag="gift.given")
    fact: Fact = given(at=NOW)
    with pytest.raises(TypeError, match=r"^Given does not define the event stream that it belongs to$"):
        _ = fact.stream


def test_a_body_with_bytes_that_are_no_text_is_a_decode_error_that_says_so() -> None:
    body = encode(points_used()).replace(b'"user_id":"', b'"user_id":"\xff')
    with pytest.raises(msgspec.DecodeError, match="utf-8"):
        decode(body)


# Steps ----------------------------------------------------------------------------------------------------------------


class BoxPacked(SagaFact, frozen=True, kw_only=True, tag="gift.box.packed"):
    """Done."""


def test_a_step_is_named_by_the_first_word_of_what_it_says() -> None:
    step = Step(hears=OrderConfirmed, done=BoxPacked, undone=BoxPacked, fenced=BoxPacked)
    assert step.service == "gift"
    assert step.says == (BoxPacked, BoxPacked, BoxPacked), "no refusal"


# Origins --------------------------------------------------------------------------------------------------------------


def test_a_number_has_15_digits_at_most() -> None:
    assert number("9" * 15) == 10**15 - 1
    assert number("1" + "0" * 15) == 0
    assert [number(text) for text in ("1", "10", "", "0", "01", "1a")] == [1, 10, 0, 0, 0, 0]


FACT = points_used()
BODY = encode(FACT)
SUBJECT = subject(NAMES[PointUsed], BODY)


def head(**headers: str) -> bytes:
    named = {STREAM: headers.get("stream"), VERSION: headers.get("version"), POSITION: headers.get("position")}
    return "".join(f"\r\n{name}: {value}" for name, value in named.items() if value).encode() + b"\r\n\r\n"


def test_a_foreign_message_is_told_what_it_lacks() -> None:
    with pytest.raises(ForeignMessage) as lacking:
        origin(SUBJECT, "account-ann@7", head(stream=FACT.stream), BODY)
    assert str(lacking.value) == "lacks the headers that a service gives its facts (Fact-Version, Fact-Position)"

    with pytest.raises(ForeignMessage) as misfit:
        origin(SUBJECT, "é" * 81, head(stream=FACT.stream, version="7", position="12"), BODY)
    shown = "\\xe9" * 80
    assert str(misfit.value) == f"has Nats-Msg-Id '{shown}', which does not fit its Fact-Stream and Fact-Version"

    with pytest.raises(ForeignMessage) as unheard:
        heard_id(FACT, SUBJECT, "", b"")
    headers = "Fact-Stream, Fact-Version, Fact-Position"
    assert str(unheard.value) == f"lacks the headers that a service gives its facts ({headers})"


def test_a_fact_with_an_escaped_stream_has_its_place_under_its_own_name() -> None:
    headers = head(stream="order-a%20b", version="1", position="2")
    assert origin("gift.given.1", "order-a%20b@1", headers, b'{"type":"gift.given"}') == Origin("order-a b", 1, 2)


def test_a_fact_with_an_escaped_stream_is_heard_under_its_own_name() -> None:
    """Older code recorded ids with any letter in them."""
    used = points_used()
    odd = replace(used, order=replace(used.order, user_id="a@b"))
    headers = head(stream="account-a%40b", version="7", position="12")
    assert heard_id(odd, SUBJECT, "account-a%40b@7", headers) == "account-a@b@7"


def test_the_id_of_an_origin_is_that_of_its_fact() -> None:
    assert Origin("order-1", 2, 3).fact_id == "order-1@2"


def test_a_fact_is_heard_only_under_its_own_name_and_key() -> None:
    for published_on in (f"point.refunded.{FACT.order_id}", "point.used.other", f"point.used.{token('a b')}"):
        with pytest.raises(ForeignMessage, match=r"^has a body that does not fit its subject$"):
            heard_id(FACT, published_on, f"{FACT.stream}@7", b"")


def test_a_replayed_fact_is_heard_only_with_both_other_headers() -> None:
    both = head(stream=FACT.stream, version="7")
    assert heard_id(FACT, SUBJECT, "replay-1@1", both) == f"{FACT.stream}@7"
    for headers in (head(stream=FACT.stream), head(version="7"), head(stream="account-eve", version="7")):
        with pytest.raises(ForeignMessage):
            heard_id(FACT, SUBJECT, "replay-1@1", headers)
    for its_id in ("", "x@1", f"{FACT.stream}@7", f"{FACT.stream}@8"):
        with pytest.raises(ForeignMessage):
            heard_id(FACT, SUBJECT, its_id, both)
