from datetime import UTC, datetime, timedelta, timezone

import pytest

from infra.timestamps import instant, microseconds, parse_instant


def test_an_instant_survives_the_table() -> None:
    moment = datetime(2026, 1, 31, 9, 0, 0, 123_456, tzinfo=UTC)
    assert instant(microseconds(moment)) == moment


def test_a_time_with_its_offset_is_parsed() -> None:
    assert parse_instant("2026-01-31T09:00:00Z") == datetime(2026, 1, 31, 9, tzinfo=UTC)
    nine_hours_east = timezone(timedelta(hours=9))
    parsed = parse_instant("2026-01-31T09:00:00.5+09:00")
    assert parsed == datetime(2026, 1, 31, 9, 0, 0, 500_000, nine_hours_east)
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+00:01"])
def test_a_time_that_utc_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not within the years 1 to 9999 in UTC"):
        parse_instant(text)


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"different time in each zone; add the offset: 2026-01-31T09:00:00\+09:00"):
        parse_instant("2026-01-31T09:00:00")


def test_a_text_that_is_no_time_is_refused_with_an_example() -> None:
    with pytest.raises(ValueError, match=r"'yesterday' is not a time such as 2026-01-31T09:00:00\+09:00"):
        parse_instant("yesterday")
