"""A caller has a rate and a burst, and the memory of callers is bounded."""

import pytest

from infra.auth import rate_limit
from infra.auth.rate_limit import RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_then_the_rate(clock: Clock) -> None:
    limit = RateLimit(8.0, 3, clock)

    assert [limit.take("ann") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limit.take("ann") == 0.125
    assert limit.take("ben") == 0.0
    clock.now += 0.0625
    assert limit.take("ann") == 0.0625
    clock.now += 0.0625
    assert limit.take("ann") == 0.0
    assert limit.take("ann") > 0.0


def test_a_pause_gives_the_burst_back_and_no_more(clock: Clock) -> None:
    limit = RateLimit(10.0, 3, clock)
    for _ in range(3):
        limit.take("ann")

    clock.now += 1_000.0

    assert [limit.take("ann") > 0.0 for _ in range(4)] == [False, False, False, True]


def test_over_time_it_is_the_rate(clock: Clock) -> None:
    limit, taken = RateLimit(10.0, 5, clock), 0
    for _ in range(1_000):
        clock.now += 0.01
        taken += limit.take("ann") == 0.0

    assert taken == 5 + 100 - 1 or taken == 5 + 100


def test_callers_are_forgotten_once_their_buckets_are_full_or_there_are_too_many(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limit, "MOST", 100)
    limit = RateLimit(1.0, 2, clock)
    for n in range(1_000):
        assert limit.take(f"u{n}") == 0.0
        assert len(limit._left) <= 100

    limit.take("u999")
    assert limit.take("u999") > 0.0  # the newest are remembered
    clock.now += 2.0
    for n in range(100):
        limit.take(f"v{n}")
    assert len(limit._left) <= 100
    assert "u999" not in limit._left
