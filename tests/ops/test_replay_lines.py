"""A line has a message as it was; filters and times mean what NATS means by them; a pace is kept."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.archive.lines import matches
from ops.replay.lines import (
    BadLine,
    ReplayedMessage,
    instant,
    is_filter,
    is_subject,
    line,
    nanoseconds,
    overlap,
    parsed,
    since_1970_ns,
)
from ops.replay.run import Replayed, Selection, due_s, from_lines, replay

JSON_OR_NOT = st.sampled_from(
    [b'{"type":"point.charged","at":"x"}', b"12", b"\xff\x00", b"", b"{}\n", b' {"a":1}', b"nul"]
)


@given(
    st.integers(1, 2**53),
    st.integers(0, 2**62),
    st.dictionaries(st.from_regex(r"[A-Za-z-]{1,9}", fullmatch=True), st.from_regex(r"[ -~]*", fullmatch=True)),
    JSON_OR_NOT,
)
def test_a_line_has_a_message_as_it_was(sequence: int, at_ns: int, headers: dict[str, str], body: bytes) -> None:
    message = ReplayedMessage(sequence, at_ns, "point.charged.u1", headers, body)

    assert list(parsed([b"\n", line(message)])) == [(2, message)]
    assert b"\n" not in line(message)


def test_a_line_of_an_older_version_is_read() -> None:
    old = b'{"sequence":1,"time":"2026-01-01T00:00:00.000000000Z","subject":"a","headers":{},"body":{}}'
    ((_, told),) = parsed([old])
    assert instant(told.stored_ns) == "2026-01-01T00:00:00.000000000Z"


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"{}",
        b'{"sequence":1,"stored":"2026-01-01T00:00:00Z","subject":"a","headers":{},"body":{}}',
        b'{"sequence":1,"stored":"yesterday","subject":"a","headers":{},"body":{}}',
        b'{"sequence":1,"stored":"2026-01-01T00:00:00.000000000Z","subject":"a.*","headers":{},"body":{}}',
        b'{"sequence":1,"stored":"2026-01-01T00:00:00.000000000Z","subject":"a b","headers":{},"body":{}}',
        b'{"sequence":1,"stored":"2026-01-01T00:00:00.000000000Z","subject":"a","headers":{}}',
        b'{"sequence":1,"stored":"2026-01-01T00:00:00.000000000Z","subject":"a","headers":{"b":"c\\r\\nd"},"body":{}}',
    ],
)
def test_a_line_that_is_no_message_is_named(text: bytes) -> None:
    with pytest.raises(BadLine, match="line 3: "):
        list(parsed([b"\n", b"\n", text]))


@pytest.mark.parametrize(
    ("pattern", "subject", "taken"),
    [
        ("point.>", "point.charged.u1", True),
        ("point.>", "point", False),
        ("point.>", "points.charged.u1", False),
        (">", "point", True),
        ("*.*.o1", "point.used.o1", True),
        ("*.*.o1", "order.created.pending.o1", False),
        ("point.used.o1", "point.used.o1", True),
        ("point.used.o1", "point.used.o10", False),
        ("point.used", "point.used.o1", False),
        ("*.>", "point.used", True),
    ],
)
def test_a_filter_takes_what_nats_would(pattern: str, subject: str, taken: bool) -> None:
    assert matches(pattern, subject) is taken


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("point.>", "point.charged.*", True),
        ("*.*.o1", "point.used.*", True),
        ("point.>", "point.>", True),
        ("a.>", "a", False),
        ("*.*.o1", "*.*.o2", False),
        ("*.*.o1", "*.*.*.o1", False),
        ("point.>", "order.>", False),
    ],
)
def test_filters_that_nats_would_refuse_together(one: str, other: str, both: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is both
    assert Selection((one, other)).read_by == (() if both else (one, other))


def test_subjects_and_filters() -> None:
    assert all(map(is_filter, ["a", "a.*", "*.b", "a.>", ">"]))
    assert not any(map(is_filter, ["", "a..b", ".a", "a b", "a.>.b", "a\n"]))
    assert is_subject("a.b")
    assert not any(map(is_subject, ["a.*", "a.>", ""]))


def test_times_are_exact() -> None:
    at = datetime(2026, 1, 31, 9, 0, 0, 123_456, UTC)
    assert instant(since_1970_ns(at) + 789) == "2026-01-31T09:00:00.123456789Z"
    assert nanoseconds("2026-01-31T09:00:00.123456789Z") == since_1970_ns(at) + 789


def test_ends_of_a_selection_are_in_it() -> None:
    at = datetime(2026, 1, 31, tzinfo=UTC)
    message = ReplayedMessage(7, since_1970_ns(at), "point.charged.u1", {}, b"")

    assert Selection(first=7, last=7, since=at, until=at, subjects=("order.>", "point.>")).has(message)
    later = message._replace(stored_ns=message.stored_ns + 999)
    assert Selection(since=at, until=at).has(later), "no time is finer than that"
    said_then = later._replace(body=b'{"at":"2026-01-30T08:00:00.000001Z"}')
    then = datetime(2026, 1, 30, 8, 0, 0, 1, UTC)
    assert not Selection(since=at).has(said_then), "a fact's own time counts, not when it was stored"
    assert Selection(since=then, until=then).has(said_then)
    for body in (b'{"at":"2026-01-30T08:00:00"}', b'{"at":7}', b'{"at":"\xff"}', b"[" * 5_000):
        assert Selection(since=at, until=at).has(message._replace(body=body)), "no fact: when it was stored"
    assert not Selection(first=8).has(message)
    assert not Selection(last=6).has(message)
    assert not Selection(until=at).has(message._replace(stored_ns=message.stored_ns + 1_000))
    assert not Selection(since=at).has(message._replace(stored_ns=message.stored_ns - 1))
    assert not Selection(subjects=("order.>",)).has(message)


@pytest.mark.parametrize(("speed", "after_s"), [(None, 0.0), (1.0, 2.5), (10.0, 0.25), (0.5, 5.0)])
def test_a_message_is_due_as_long_after_the_first_as_it_was(speed: float | None, after_s: float) -> None:
    assert due_s(2_500_000_000, speed) == after_s


async def test_a_pace_is_kept() -> None:
    """By a clock that only sleeping moves."""
    now, said = 100.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def say(message: ReplayedMessage) -> None:
        said.append((message.sequence, now - 100.0))

    messages = [
        ReplayedMessage(n, at_s * 10**9, "a", {}, b"1") for n, at_s in ((1, 50), (2, 50), (3, 54), (4, 53), (5, 60))
    ]
    done = Replayed()
    await replay(from_lines(map(line, messages), Selection()), say, done, 2.0, rest=sleep, clock=lambda: now)

    assert said == [(1, 0.0), (2, 0.0), (3, 2.0), (4, 2.0), (5, 5.0)]
    assert (done.messages, done.first, done.last) == (5, 1, 5)
