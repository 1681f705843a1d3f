import time as clock
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from infra.timestamps import instant, microseconds, parse_time


def test_an_instant_survives_the_table() -> None:
    moment = datetime(2026, 1, 31, 9, 0, 0, 123_456, tzinfo=UTC)
    assert instant(microseconds(moment)) == moment


@pytest.fixture(params=["Asia/Seoul", "America/New_York", "UTC"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    clock.tzset()
    yield request.param
    monkeypatch.undo()
    clock.tzset()


def test_a_time_with_its_offset_is_parsed() -> None:
    assert parse_time("2026-01-31T09:00:00Z") == datetime(2026, 1, 31, 9, tzinfo=UTC)
    nine_hours_east = timezone(timedelta(hours=9))
    parsed = parse_time("2026-01-31T09:00:00.5+09:00")
    assert parsed == datetime(2026, 1, 31, 9, 0, 0, 500_000, nine_hours_east)
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+00:01"])
def test_a_time_that_utc_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not within the years 1 to 9999 in UTC"):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("-90s", timedelta(seconds=90)),
        ("-5m", timedelta(minutes=5)),
        ("-2h", timedelta(hours=2)),
        ("-3d", timedelta(days=3)),
    ],
)
def test_a_time_ago_is_counted_from_now(text: str, ago: timedelta) -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parse_time(text, lambda: noon) == noon - ago


def test_a_time_without_an_offset_is_local(zone: str) -> None:
    local = datetime(2026, 1, 31, 15, 32, tzinfo=ZoneInfo(zone))
    assert parse_time("2026-01-31 15:32") == parse_time("2026-01-31T15:32:00") == local
    assert parse_time("2026-01-31") == local.replace(hour=0, minute=0)
    assert parse_time("2026-01-31 15:32").tzinfo is not None


def test_a_time_of_day_is_the_last_one_that_has_passed(zone: str) -> None:
    local = datetime(2026, 1, 31, 15, 32, tzinfo=ZoneInfo(zone))
    assert parse_time("15:32", lambda: local.astimezone(UTC)) == local
    assert parse_time("15:31:59.5", lambda: local.astimezone(UTC)) == local - timedelta(milliseconds=500)
    assert parse_time("15:33", lambda: local.astimezone(UTC)) == local - timedelta(days=1) + timedelta(minutes=1)


@pytest.mark.parametrize("text", ["yesterday", "", "5m", "-5", "25:00", "-999999999d", "2026-13-01", "٣:٣٢"])
def test_a_text_that_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time such as 2026-01-31T09:00:00\+09:00|before the year 1"):
        parse_time(text)
