"""The newest messages of a key: facts, foreign ones, or facts of newer code, without which no history is told."""

import pytest

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION, encode, message_id
from infra.broker.client import VERSION_LINE
from infra.broker.errors import HistoryUnavailable
from infra.broker.lookup import _split
from infra.broker.stored import StoredMessage
from tests.examples import reserve_failed

FACT = reserve_failed("product-unknown")
SUBJECT = f"product.reserve.failed.{FACT.order_id}"


def latest(body: bytes) -> StoredMessage:
    headers = {MSG_ID: message_id(FACT.stream, 1), STREAM: FACT.stream, VERSION: "1", POSITION: "1"}
    head = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
    return StoredMessage(7, SUBJECT, body, f"{VERSION_LINE}{head}\r\n\r\n".encode(), 0)


def test_a_fact_of_newer_code_is_not_taken_for_a_foreign_message() -> None:
    body = encode(FACT)
    newer = body.replace(b"product-unknown", b"product-recalled")

    assert _split([latest(body)]) == ([FACT], set())
    assert _split([latest(body.replace(b'"order_id"', b'"x"'))]) == ([], {SUBJECT})
    with pytest.raises(HistoryUnavailable, match=f"{SUBJECT} at sequence 7: it is of newer code: "):
        _split([latest(newer)])
