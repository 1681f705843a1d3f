"""Timestamps: the clock, the number a table stores, and the text a person types.

Tables store whole microseconds since 1970 (UTC), because these sort as the instants do. RFC 3339 text does not: a
fraction of zeros is left out, and `09:00:00Z` sorts after `09:00:00.5Z`.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)  # the shortest time a fact can tell apart


def now() -> datetime:
    return datetime.now(UTC)


def microseconds(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND


def instant(microseconds: int) -> datetime:
    return EPOCH + microseconds * MICROSECOND


def in_utc(instant: datetime) -> datetime:
    """Return the same instant with the offset of UTC, in which every tool can compare, convert and store it.

    Raises ValueError, with a message for the user, if it is before the year 1 or after the year 9999 in UTC.
    """
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{instant.isoformat()} is not within the years 1 to 9999 in UTC") from None


def parse_instant(text: str) -> datetime:
    """Parse a time such as 2026-01-31T09:00:00+09:00 (RFC 3339, or another ISO 8601 form).

    The result is in UTC. Raises ValueError, with a message for the user, if the text is not a time or has no offset, or
    if its year in UTC is not from 1 to 9999.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time such as 2026-01-31T09:00:00+09:00") from None
    if parsed.tzinfo is None:
        raise ValueError(f"{text} is a different time in each zone; add the offset: {text}+09:00")
    return in_utc(parsed)
