"""What is written into DEAD is bounded ASCII; what is read there may be anything, and never raises."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.wire import STREAM
from infra.broker.client import VERSION_LINE
from infra.broker.stored import StoredMessage
from infra.consuming.dead_letter import DeadLetter
from infra.consuming.dead_letter_message import MAX_ERROR, MAX_STACK, error_text, headers_of, parsed, traceback_text
from infra.core.messages import MAX_KEY, Delivery, StreamPosition
from infra.timestamps import microseconds
from ops.dlq.dead_letters import as_json, lines, table

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVERS_LIMIT = 64 << 10


def letter(**changes: Any) -> DeadLetter:
    made = DeadLetter(
        0, "point", "k", NOON, 4, "error", "stack", "a.b.k", "a@1", StreamPosition(7, 8), b"NATS/1.0\r\n\r\n", b"{}"
    )
    return made._replace(**changes)


def stored(headers: dict[str, str] | bytes, subject: str = "dead.point.k", body: bytes = b"{}") -> StoredMessage:
    if isinstance(headers, dict):
        headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    return StoredMessage(1, subject, body, f"{VERSION_LINE}\r\n".encode() + headers + b"\r\n", 0)


def shown(found: DeadLetter) -> str:
    """All that an operator may see of it; each way of showing must take it."""
    msgspec.json.encode(as_json(found))
    assert (datetime.now(UTC) - found.at).total_seconds() > -1e12
    table([found], {})
    text = lines(found)
    text.encode()
    assert "\x1b" not in text
    return text


anything = st.text(st.characters(exclude_categories=()), max_size=100) | st.sampled_from(
    ["9" * 5_000, "\ud800", "[/b]", "[bold", "\x1b[31m", "\\", "\\U00110000", "\\ud800", "a\r\nb: c", "٣" * 30]
)


@given(error=anything, stack=anything, subject=anything, fact_id=anything, head=st.binary(), body=st.binary())
def test_what_is_written_is_read_again_as_it_was(
    error: str, stack: str, subject: str, fact_id: str, head: bytes, body: bytes
) -> None:
    written = letter(error=error, stack=stack, subject=subject, fact_id=fact_id, head=head, body=body)

    found = parsed(stored(headers_of(written), body=body))

    shown(found)
    texts = "".join((error, stack, subject, fact_id))
    if not found.cut and texts.encode(errors="ignore").decode() == texts:  # no lone surrogate
        assert found == written._replace(sequence=1)


@pytest.mark.parametrize("character", ["x", "\x00", "ä", "\U0001f600", "\ud800", "\\"])
def test_what_is_written_fits_whatever_the_size_of_its_parts(character: str) -> None:
    huge = character * 500_000
    written = letter(error=huge, stack=huge, subject=huge, fact_id=huge, head=b"\xff" * 60_000, body=b"x" * 200_000)

    headers = headers_of(written)
    found = parsed(stored(headers))

    assert sum(len(name) + len(value) + 4 for name, value in headers.items()) < SERVERS_LIMIT
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert found.cut.split() == ["Error", "Subject", "Fact-Id", "Headers", "Body"]
    assert "too large to be kept whole" in shown(found)


@settings(max_examples=300)
@given(
    values=st.dictionaries(
        st.sampled_from(["At", "Attempts", "Error", "Stack", "Subject", "Fact-Id", "Sequence", "Stored", "Headers"]),
        anything | st.sampled_from(["-1", "1e3", "9" * 25, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]),
    ),
    subject=st.sampled_from(["dead", "dead.point", "dead.point.k", "dead.point.k.l", "dead.po\\xff.*", "dead.x.>"]),
)
@example(values={"Attempts": "9" * 5_000, "Sequence": "9" * 19}, subject="dead.point.k")
def test_what_anybody_wrote_there_is_read(values: dict[str, str], subject: str) -> None:
    raw = b"".join(
        f"Dead-{name}: {value}\r\n".encode(errors="surrogatepass").replace(b"\x00", b"\xff")
        for name, value in values.items()
    )

    found = parsed(stored(raw, subject))

    shown(found)
    assert 0 <= found.attempts < 2**63 > found.origin.sequence >= 0
    assert found.at.tzinfo is not None


@pytest.mark.parametrize(
    ("subject", "names"),
    [("dead.point.k", ("point", "k")), ("dead.point.k.l", ("point", "k.l")), ("dead.point", ("point", ""))],
)
def test_the_subject_names_consumer_and_key(subject: str, names: tuple[str, str]) -> None:
    found = parsed(stored(b"", subject))

    assert (found.consumer, found.key) == names


def test_a_value_that_is_not_ascii_is_shown_as_it_is() -> None:
    found = parsed(stored("Dead-Error: kaputt für immer\r\n".encode()))

    assert found.error == "kaputt für immer"


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_errors_text_is_bounded_and_one_without_a_text_has_its_name() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise ValueError("x" * 100_000)

    with pytest.raises(ValueError) as raised:
        deep(200)
    assert len(error_text(raised.value)) < MAX_ERROR + 50
    assert error_text(raised.value).startswith("ValueError: xxx")
    assert len(traceback_text(raised.value)) == MAX_STACK
    assert error_text(SilentError()) == "SilentError"
    assert "SilentError" in traceback_text(SilentError())


def test_a_message_that_no_service_published_is_to_be_dropped() -> None:
    foreign = letter(sequence=7, subject="order.canceled.o1", head=f"{VERSION_LINE}\r\n\r\n".encode(), body=b"{oops")
    own = foreign._replace(head=f"{VERSION_LINE}\r\n{STREAM}: order-o1\r\n\r\n".encode())

    assert "foreign, drop it: no service published it, as it lacks the headers" in shown(foreign)
    assert "just dlq drop 7 --yes" in shown(foreign)
    assert "drop it" not in shown(own)
    assert "drop it" not in shown(foreign._replace(cut="Headers"))


def test_the_key_of_a_long_subject_is_bounded_and_still_its_own() -> None:
    def key(token: str) -> str:
        return Delivery("", b"", "", StreamPosition(1, 1), f"product.reserved.{token}").key

    assert key("o" * MAX_KEY) == "o" * MAX_KEY
    assert len(key("o" * 4_000)) < MAX_KEY
    assert key("o" * 4_000) == key("o" * 4_000) != key("o" * 4_001)


@pytest.mark.parametrize("headers", [b"", b"Dead-At: yesterday\r\n"])
def test_a_dead_letter_without_a_readable_time_is_as_old_as_its_message(headers: bytes) -> None:
    foreign = stored(headers)._replace(stored_ns=1_000 * microseconds(NOON))

    assert parsed(foreign).at == NOON
