"""The lag of the stream: how many facts it lacks, and for how long the oldest of them waits."""

from collections.abc import Sequence
from typing import Any

import pytest

from infra.broker.gaps import Gap
from infra.process.relay_lag import RelayLag


class Published:
    """A relay that has published the log up to here."""

    acked = 0
    gaps: Sequence[Gap] = ()


class Log:
    def __init__(self, end: int = 0) -> None:
        self.now = 100.0
        self.relay: Any = Published()
        self.relay.acked = end
        self.lag = RelayLag(lambda: self.relay, end, lambda: self.now)

    @property
    def told(self) -> tuple[int, float]:
        return self.lag.facts, round(self.lag.seconds, 3)


@pytest.fixture
def log() -> Log:
    return Log()


def test_the_oldest_fact_that_is_not_published_tells_the_seconds(log: Log) -> None:
    log.lag.recorded(2)
    log.now += 1
    log.lag.recorded(3)
    log.now += 4

    assert log.told == (5, 5)
    log.relay.acked = 2
    assert log.told == (3, 4)
    log.relay.acked = 5
    assert log.told == (0, 0)


def test_without_a_session_nothing_is_published(log: Log) -> None:
    log.relay.acked = 0
    log.lag.recorded(1)
    log.relay.acked = 1
    assert log.told == (0, 0)
    log.relay = None
    log.lag.recorded(1)
    log.now += 7

    assert log.told == (1, 7)


def test_a_broker_that_lost_its_stream_is_behind_from_the_first_look_on() -> None:
    log = Log(end=10)
    assert log.told == (0, 0)
    log.relay.acked = 0
    assert log.told == (10, 0)
    log.now += 3

    assert log.told == (10, 3)


def test_under_load_facts_are_in_flight_at_each_look_and_the_lag_does_not_grow(log: Log) -> None:
    for _ in range(120):
        log.lag.recorded(1)  # published only after the look
        log.now += 0.01
        assert log.told == (1, 0.01)
        log.relay.acked += 1
        log.now += 5


def test_facts_of_before_the_start_are_the_oldest_until_they_are_published() -> None:
    log = Log(end=10)
    log.relay.acked = 0
    assert log.told == (10, 0)
    log.now += 4
    log.lag.recorded(1)

    assert log.told == (11, 4)
    log.relay.acked = 10
    assert log.told == (1, 0)


def test_commits_in_quick_succession_are_one_and_the_first_of_them_counts(log: Log) -> None:
    for _ in range(5_000):
        log.lag.recorded(1)
        log.now += 0.01

    assert len(log.lag._waiting) < 600
    assert log.told == (5_000, 50)


def test_facts_of_another_process_are_published_and_no_lag(log: Log) -> None:
    log.relay.acked = 4

    assert log.told == (0, 0)
    log.lag.recorded(1)
    assert log.lag.facts == 1


def test_of_a_gap_only_the_facts_that_are_missing_count_and_wait_since_they_were_found_missing() -> None:
    log = Log(end=1_000)
    log.now += 3
    log.relay.gaps = [Gap(10, 30), Gap(50, 51)]
    assert log.told == (21, 0)
    log.now += 4
    log.lag.recorded(2)
    log.relay.gaps = [Gap(25, 30), Gap(50, 51)]

    assert log.told == (8, 4)
    log.relay.gaps = ()
    assert log.told == (2, 0)
    log.relay.acked = 1_002
    assert log.told == (0, 0)
