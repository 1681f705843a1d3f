"""A fact of newer code is told from a damaged one, and a log knows which part of it newer code may have written."""

from pathlib import Path
from typing import Final

import msgspec
import pytest

from contracts import Fact, OrderCanceled, PointCharged, ProductStockAdded
from contracts.newer import NEXT_STEP, OfNewerCode, words_of
from contracts.origin import ForeignMessage, heard
from contracts.wire import FACTS, MSG_ID, NAMES, VOCABULARY, decode, encode, subject, why_newer
from infra.store import vocabulary
from infra.store.vocabulary import Segment
from tests.contracts.examples import EXAMPLES
from tests.examples import order_canceled

CANCELED: Final = encode(order_canceled("customer-canceled"))
NEW_REASON: Final = CANCELED.replace(b"customer-canceled", b"shop-closed")
NEW_TYPE: Final = b'{"type":"point.gifted","at":"2026-03-01T09:30:00Z","user_id":"ann"}'


def test_an_unknown_type_and_an_unknown_reason_are_of_newer_code_in_words() -> None:
    with pytest.raises(OfNewerCode, match=r"of newer code: its type 'point\.gifted' is unknown here; " + NEXT_STEP):
        decode(NEW_TYPE)
    with pytest.raises(OfNewerCode, match="its reason 'shop-closed' is unknown here; " + NEXT_STEP) as refused:
        decode(NEW_REASON)

    fact = refused.value.fact
    assert isinstance(fact, OrderCanceled)
    assert (fact.reason, fact.order_id) == ("shop-closed", decode(CANCELED).order_id)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="no JSON"),
        pytest.param(b'{"type":"order.canceled","at":"\xff"}', id="no UTF-8"),
        pytest.param(b"[" * 100_000, id="too deep"),
        pytest.param(b'{"type":"point.gifted"}', id="no time"),
        pytest.param(CANCELED.replace(b'"reason":"customer-canceled"', b'"reason":7'), id="a reason that is no text"),
        pytest.param(NEW_REASON.replace(b'"order_id"', b'"x"'), id="a new reason, and a field is missing"),
    ],
)
def test_what_is_damaged_is_not_of_newer_code(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError) as refused:
        decode(body)

    assert not isinstance(refused.value, OfNewerCode)
    assert why_newer("order.canceled", body) is None


def test_a_copy_of_a_fact_of_newer_code_is_of_newer_code_too() -> None:
    """As `orders replay --fresh-ids` makes it: with an id of its own, and without a position."""
    published_on, its_id = subject("order.canceled", NEW_REASON), "replay-1@9"

    def head(**headers: str) -> bytes:
        lines = {MSG_ID: its_id} | {name.replace("_", "-"): text for name, text in headers.items()}
        return "".join(["NATS/1.0\r\n", *(f"{name}: {text}\r\n" for name, text in lines.items()), "\r\n"]).encode()

    place = {"Fact_Stream": order_canceled("customer-canceled").stream, "Fact_Version": "2"}
    with pytest.raises(OfNewerCode, match="its reason 'shop-closed' is unknown here"):
        heard(published_on, its_id, head(**place), NEW_REASON)
    with pytest.raises(ForeignMessage, match=r"lacks the headers .* \(Fact-Version\)"):
        heard(published_on, its_id, head(Fact_Stream=place["Fact_Stream"]), NEW_REASON)
    with pytest.raises(ForeignMessage, match="has a body that does not fit its subject"):
        heard("order.canceled.another", its_id, head(**place), NEW_REASON)
    with pytest.raises(ForeignMessage, match=r"lacks the headers .* \(Fact-Position\)"):
        heard(published_on, "another", head(**place), NEW_REASON)


def test_a_foreign_message_of_an_unknown_type_is_foreign() -> None:
    with pytest.raises(ForeignMessage):
        heard("point.charged.ann", "", b"", NEW_TYPE)


KNOWN_TO_ALL: Final = (PointCharged, ProductStockAdded)
"""Facts whose keys do not follow from their streams. Every version of the code knows them; no new fact may be one."""


@pytest.mark.parametrize(
    "fact",
    [fact for fact in EXAMPLES if type(fact) not in KNOWN_TO_ALL],
    ids=lambda fact: NAMES[type(fact)],
)
def test_the_key_of_every_fact_is_the_one_that_older_code_would_publish_it_under(fact: Fact) -> None:
    name, body = NAMES[type(fact)], encode(fact)

    assert subject(f"{name}.anew", body, fact.stream) == f"{name}.anew.{subject(name, body).rpartition('.')[2]}"


def test_every_field_with_a_few_words_is_known_and_none_is_hidden_in_an_order() -> None:
    assert {name for name, fact in FACTS.items() if words_of(fact)} == {
        *("order.canceled", "product.reserve.failed", "point.use.failed", "coupon.use.failed")
    }
    assert "order.canceled reason customer-canceled" in VOCABULARY
    assert "order.confirmed order.lines.quantity" in VOCABULARY
    for name, fact in FACTS.items():
        (schema,), parts = msgspec.json.schema_components([fact])
        assert schema
        assert [part for part in ("Order", "Line") if b'"enum"' in msgspec.json.encode(parts.get(part))] == [], name


# The file beside the log ----------------------------------------------------------------------------------------------


def test_a_log_knows_which_part_of_it_newer_code_may_have_written(tmp_path: Path) -> None:
    assert vocabulary.begin(tmp_path, 0, {"a"}) == []
    assert vocabulary.begin(tmp_path, 10, {"a"}) == []
    assert vocabulary.begin(tmp_path, 20, {"a", "b"}) == []
    assert vocabulary.begin(tmp_path, 30, {"a"}) == [Segment(20, 30, frozenset({"b"}))]
    assert vocabulary.begin(tmp_path, 40, {"a"}) == [Segment(20, 30, frozenset({"b"}))]
    assert vocabulary.begin(tmp_path, 40, {"a", "b"}) == []
    assert vocabulary.begin(tmp_path, 40, {"a"}) == [Segment(20, 30, frozenset({"b"}))]


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b'[{"after":50,"words":[]}]'])
def test_without_a_file_that_fits_the_log_all_of_it_may_be_of_newer_code(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / vocabulary.NAME).write_bytes(content)

    assert vocabulary.begin(tmp_path, 40, {"a"}) == [Segment(0, 40, frozenset())]
    assert vocabulary.begin(tmp_path, 41, {"a"}) == []
