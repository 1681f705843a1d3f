"""A consumer's backlog: what waits, and since when, without a request of its own."""

from typing import Any

import pytest
from nats.js.api import ConsumerInfo

from infra.broker.truncation import ReceivedPositions
from infra.consuming import backlog
from infra.consuming.backlog import Backlog
from infra.core.messages import StreamPosition


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(backlog, "time", made)
    return made


def info(pending: int, unacknowledged: int = 0) -> ConsumerInfo:
    found: dict[str, Any] = dict.fromkeys(ConsumerInfo.__dataclass_fields__)
    return ConsumerInfo(**found | {"num_pending": pending, "num_ack_pending": unacknowledged})


def test_nothing_waits_after_a_look_that_finds_nothing(clock: Clock) -> None:
    found = Backlog(ReceivedPositions())
    clock.now += 60

    found.looked(info(0))

    assert (found.pending, found.unacknowledged, found.lag_s) == (0, 0, 0)


def test_the_lag_begins_at_the_last_look_that_found_nothing(clock: Clock) -> None:
    found = Backlog(ReceivedPositions())
    clock.now += 60
    found.looked(info(0))
    clock.now += 1
    found.looked(info(3, 2))
    clock.now += 9

    assert (found.pending, found.unacknowledged, found.lag_s) == (3, 2, 10)


def test_the_message_that_was_handled_last_is_older_than_those_that_wait(clock: Clock) -> None:
    received = ReceivedPositions()
    found = Backlog(received)
    clock.now += 60
    received.add(StreamPosition(7, 1_055_000_000))
    found.looked(info(3))

    assert found.lag_s == 5


def test_after_a_long_stop_the_lag_is_that_of_the_messages_and_not_of_the_session(clock: Clock) -> None:
    received = ReceivedPositions()
    found = Backlog(received)
    found.looked(info(9_000))
    received.add(StreamPosition(7, 400_000_000))
    clock.now += 3
    found.looked(info(8_000))

    assert found.lag_s == 603


def test_a_new_session_goes_on_where_the_one_before_had_heard_all(clock: Clock) -> None:
    received = ReceivedPositions()
    received.add(StreamPosition(7, 400_000_000))
    Backlog(received).looked(info(0))
    clock.now += 5
    found = Backlog(received)
    clock.now += 1

    found.looked(info(1))

    assert found.lag_s == 6


def test_a_message_that_was_delivered_before_counts_as_redelivered() -> None:
    received = ReceivedPositions()

    assert [received.delivered(sequence) for sequence in (1, 2, 5, 2, 5, 6)] == [False, False, False, True, True, False]


def test_a_message_in_place_of_one_that_the_broker_lost_does_not() -> None:
    received = ReceivedPositions()
    for sequence in (1, 2, 3):
        received.delivered(sequence)
        received.add(StreamPosition(sequence, sequence))
    received.forget_after(1)

    assert [received.delivered(sequence) for sequence in (2, 3)] == [False, False]
