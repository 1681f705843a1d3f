"""Timestamps: the clock, the number a table stores, and the text a person types.

Tables store whole microseconds since 1970 (UTC), because these sort as the instants do. RFC 3339 text does not: a
fraction of zeros is left out, and `09:00:00Z` sorts after `09:00:00.5Z`.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AGO: Final = re.compile(r"-([0-9]{1,9})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_TIME_OF_DAY: Final = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?")
MICROSECOND: Final = timedelta(microseconds=1)  # the shortest time a fact can tell apart


def now() -> datetime:
    return datetime.now(UTC)


def microseconds(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND


def instant(microseconds: int) -> datetime:
    return EPOCH + microseconds * MICROSECOND


def in_utc(instant: datetime) -> datetime:
    """Return the same instant with the offset of UTC, in which every tool can compare, convert and store it.

    Raises ValueError, with a message for the user, if the instant is before the year 1 or after the year 9999 in UTC.
    """
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{instant.isoformat()} is not within the years 1 to 9999 in UTC") from None


def parse_time(text: str, now: Callable[[], datetime] = now) -> datetime:
    """Parse a time as a person types it; return it with an offset from UTC.

    The text is a time ago (`-90s`, `-5m`, `-2h`, `-3d`), a time of day (`15:32`, `15:32:10`: the last that has passed),
    a date with or without a time (`2026-01-31 15:32`), or what `datetime.fromisoformat` reads, such as RFC 3339.
    Without an offset it is in this machine's time zone.

    Raises ValueError, with a message for the user, if the text is none of these, or not within the years 1 to 9999.
    """
    text = text.strip()
    if ago := _AGO.fullmatch(text):
        try:
            return now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        except OverflowError:
            raise ValueError(f"{text} is before the year 1") from None
    try:
        if _TIME_OF_DAY.fullmatch(text):
            here = now().astimezone()
            today = datetime.combine(here.date(), time.fromisoformat(text)).astimezone()
            if today <= here:
                return today
            return datetime.combine(here.date() - timedelta(days=1), time.fromisoformat(text)).astimezone()
        parsed = datetime.fromisoformat(text)
        parsed = parsed if parsed.tzinfo is not None else parsed.astimezone()
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not a time such as 2026-01-31T09:00:00+09:00, -5m (five minutes ago) or 15:32 (local time)"
        ) from None
    return in_utc(parsed)
