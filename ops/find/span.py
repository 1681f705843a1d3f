"""Finds the part of a log in which facts of a time can be: positions rise with time, but for a little."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from contracts.fact import DECODE_ERRORS, time_of
from ops.stores import ServiceLog

DISORDER: Final = timedelta(minutes=1)
"""A fact's time may be this much before that of a fact at an earlier position: a request waits its turn, and clocks are
set. So a search goes on beyond the wanted time by as much."""
TRIES: Final = 100  # records that are looked at to find a time


class LogSpan(NamedTuple):
    """A part of a log: the positions after `after`, up to and including `until`."""

    after: int
    until: int


async def span(log: ServiceLog, last: int, since: datetime | None, until: datetime | None) -> LogSpan:
    """Return the part of the log, up to position `last`, that has all facts with a time from `since` to `until`.

    `since` or `until` None: that side has no bound. The part may have other facts, too. It may lack some if a fact's
    time is more than DISORDER (1 min) before that of an earlier position, or if TRIES (100) records in a row have no
    readable time.
    Raises Unreachable.
    """
    first, end = 0, last
    if since is not None:
        first = await _last_before(log, last, _shifted(since, -DISORDER))
    if until is not None:
        end = await _last_before(log, last, _shifted(until, DISORDER)) + 1
    return LogSpan(first, min(end, last))


async def time_at(log: ServiceLog, position: int) -> datetime | None:
    """Return the time of the first fact from `position` on whose time can be read.

    Returns None if none of TRIES (100) records from there on has one. Raises Unreachable.
    """
    for record in await log.select_notifications(position - 1, TRIES):
        try:
            return time_of(record.state)
        except DECODE_ERRORS:
            continue
    return None


async def _last_before(log: ServiceLog, last: int, time: datetime) -> int:
    """Return a position such that the fact there has a time before `time`, and the next one has not; 0: none has."""
    low, high = 0, last
    while low < high:
        middle = (low + high + 1) // 2
        at = await time_at(log, middle)
        if at is not None and at < time:
            low = middle
        else:
            high = middle - 1
    return low


def _shifted(time: datetime, by: timedelta) -> datetime:
    try:
        return time + by
    except OverflowError:  # at the edge of all times
        return time
