"""Instants as tables keep them: whole microseconds since 1970 (UTC), which sort as the instants do.

As text, RFC 3339 does not sort where fractions end in zeros.
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
