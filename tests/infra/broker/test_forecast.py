"""What will refuse facts is said days before, by the rate at which they come; the time is given to it."""

from datetime import UTC, datetime, timedelta

import pytest
from nats.js.api import StreamConfig, StreamInfo, StreamState

from infra.broker.forecast import bytes_per_s, forecast
from infra.settings import Settings

GB = 1 << 30
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def generation(
    number: int, made_after_days: float, size: float, *, messages: int = 1_000, sealed: bool = False
) -> StreamInfo:
    """A generation of so many GB."""
    config = StreamConfig(name=f"EVENTS_{number}", max_bytes=8 * GB, sealed=sealed)
    state = StreamState(messages=messages, bytes=int(size * GB), first_seq=1, last_seq=messages, consumer_count=0)
    return StreamInfo(config, state, created=BEGAN + timedelta(days=made_after_days))


def at(days: float) -> datetime:
    return BEGAN + timedelta(days=days)


def years(weeks: int) -> list[StreamInfo]:
    """One generation of 1.5 GB each week, the newest just made."""
    return [*(generation(n, 7 * n, 1.5, sealed=True) for n in range(weeks)), generation(weeks, 7 * weeks, 0.001)]


def test_the_rate_is_the_one_of_all_or_of_the_newest() -> None:
    slow = [generation(0, 0, 7, sealed=True), generation(1, 7, 0)]
    assert bytes_per_s(slow, at(7)) * 86_400 == pytest.approx(GB)
    faster = [generation(0, 0, 7, sealed=True), generation(1, 7, 4)]
    assert bytes_per_s(faster, at(8)) * 86_400 == pytest.approx(4 * GB)


def test_what_comes_in_the_first_minute_tells_nothing_about_days() -> None:
    assert bytes_per_s([generation(0, 0, 1)], at(1 / 1_440)) == pytest.approx(GB / 3_600)


def test_a_system_that_archives_is_never_warned_whatever_its_age() -> None:
    settings = Settings(port=1)

    for week in range(520):
        kept = [generation(week - 1, 7 * (week - 1), 1.5, sealed=True), generation(week, 7 * week, 1.4)]
        assert forecast(kept, settings, at(7 * week + 6.9)) == []


def test_one_that_does_not_is_told_days_before_the_broker_is_full() -> None:
    settings = Settings(port=1)
    warned = [week for week in range(40) if forecast(years(week), settings, at(7 * week + 0.1))]

    assert warned == [*range(36, 40)]
    (told,) = forecast(years(36), settings, at(7 * 36 + 0.1))
    assert told == (
        "the broker takes no more facts in about 7 days, at the present rate: archive the sealed generations "
        "(just archive), or give it more room (BROKER_MAX_BYTES)"
    )
    assert "in about 11 hours" in forecast(years(37), settings, at(7 * 37 + 0.1))[0]
    assert "facts from now on, at" in forecast(years(38), settings, at(7 * 38 + 0.1))[0]


def test_more_room_and_an_unknown_one() -> None:
    assert forecast(years(39), Settings(port=1, broker_max_bytes=200 * GB), at(274)) == []
    assert forecast(years(39), Settings(port=1, nats_url="nats://other:4222"), at(274)) == []
    assert forecast(years(39), Settings(port=1, nats_url="nats://other:4222", broker_max_bytes=66 * GB), at(274))


def test_a_generation_that_nobody_seals_is_told_after_a_quarter_of_an_hour() -> None:
    settings, minute = Settings(port=1), 1 / 1_440
    both = [generation(0, 0, 1), generation(1, 1, 0)]

    assert forecast(both, settings, at(1 + 14.9 * minute)) == []
    assert forecast(both, settings, at(1 + 15 * minute)) == [
        "an older generation of EVENTS is not sealed after 15 min (EVENTS_0): is the keeper running "
        "(just stream keeper)?"
    ]
    assert forecast([generation(0, 0, 1, sealed=True), both[1]], settings, at(2)) == []
    assert forecast(both[:1], settings, at(2)) == []


@pytest.mark.parametrize(
    ("newest", "days", "said"),
    [
        (generation(0, 0, 1.9, messages=749_999), 7, None),
        (generation(0, 0, 1.9, messages=750_000), 7, "though it has 750000 messages: is the keeper running"),
        (generation(0, 0, 2.9), 7, None),
        (generation(0, 0, 3.5), 7, "though it has 3758096384 bytes: is the keeper running (just stream keeper)? At"),
        (generation(0, 0, 0.5), 10, None),
        (generation(0, 0, 0.5), 11, "though it is 11 days old"),
        (generation(0, 0, 0.5, sealed=True), 11, None),
    ],
)
def test_a_generation_that_nobody_rolls_over_is_told_with_the_time_that_is_left(
    newest: StreamInfo, days: float, said: str | None
) -> None:
    told = forecast([newest], Settings(port=1), at(days))

    assert (said is None and told == []) or (said is not None and said in told[0]), told


def test_the_time_that_is_left_without_a_keeper() -> None:
    (told,) = forecast([generation(0, 0, 3.8)], Settings(port=1), at(10))

    assert told.endswith("At the present rate it is full in about 10 days")
