"""Finds which facts of a service the generations of the stream have lost, by what they have."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import structlog

from contracts.wire import MSG_ID
from infra.broker.client import header
from infra.broker.fact_message import id_of, subject_of
from infra.broker.history import read_on
from infra.broker.holes import runs
from infra.broker.leader import Leader
from infra.store.event_store import EventStore
from infra.store.records import Notification

logger = structlog.get_logger()

Stored = dict[int, set[tuple[str, bytes]]]
"""Log position → id and body of each fact that the stream has with it: more than one if somebody forged others."""


class Gap(NamedTuple):
    """Positions of a log that the stream lost: all after `after`, up to `until`, included."""

    after: int
    until: int


async def find_gaps(service: str, store: EventStore, leaders: Sequence[Leader], floor: int, acked: int) -> list[Gap]:
    """Return what the generations lack of the log after the position `floor`, up to `acked` (included).

    `leaders` are those of the generations, the oldest first. The archive has what is up to `floor`. If there are only
    holes in the middle of generations, they are not found: see `holes`. Raises StoreError, LeaderUnavailable, the
    client's errors.
    """
    reached = floor
    for leader in leaders:
        if reached >= acked:
            break
        if not await _goes_on(store, leader, reached):
            if await leader.last(f"{service}.>") is None:
                continue
            return await find_missing(service, store, leaders, floor, acked)
        reached = max(reached, acked if leader is leaders[-1] else await _newest(leader, f"{service}.>"))
    return [] if reached >= acked else await find_missing(service, store, leaders, floor, acked)


async def _newest(leader: Leader, subject: str) -> int:
    """Return the highest position on this subject at the generation's end; 0 without a fact there.

    Facts that filled a gap (`resent`) say nothing of the end: this reads back until a list has one that filled none.
    """
    newest = 0
    async for facts in leader.read_back(subject):
        newest = max([newest, *(one.position for one in facts)])
        if not all(one.resent for one in facts):
            break
    return newest


async def find_missing(service: str, store: EventStore, leaders: Sequence[Leader], floor: int, acked: int) -> list[Gap]:
    """Read all of the service's facts; return the gaps among the positions after `floor`, up to `acked` (included).

    Raises StoreError, LeaderUnavailable, the client's errors.
    """
    logger.warning("the stream lost facts: reading which ones it has", service=service, after=floor, until=acked)
    found = bytearray(acked - floor)
    async for facts in read_on(leaders, f"{service}.>"):
        stored: Stored = {}
        for one in facts:
            if floor < one.position <= acked:
                stored.setdefault(one.position, set()).add((one.fact_id, one.body))
        for first, last in runs(sorted(stored)):
            records = await store.select_notifications(first - 1, last - first + 1)
            lacking = {record.position for record in not_stored(records, stored)}
            for position in range(first, last + 1):
                found[position - floor - 1] |= position not in lacking
    return as_gaps(floor + n for n, there in enumerate(found, 1) if not there)


def as_gaps(positions: Iterable[int]) -> list[Gap]:
    """Join these positions, rising and all lost, to gaps."""
    return [Gap(first - 1, last) for first, last in runs(positions)]


async def _goes_on(store: EventStore, leader: Leader, reached: int) -> bool:
    """Whether the log's fact after the position `reached`, which must exist, is the generation's first of its subject.

    A stream that was made anew may have only later facts, until the relay has published the others. Raises StoreError,
    LeaderUnavailable, the client's errors.
    """
    (first,) = await store.select_notifications(reached, 1)
    found = await leader.next(leader.first_sequence, subject_of(first))
    return found is not None and header(found.raw_headers, MSG_ID.encode()) == id_of(first)


def not_stored(records: list[Notification], stored: Stored) -> list[Notification]:
    """Return the records for which `stored` has no fact at their position with the same id and body."""
    if not stored:
        return records
    return [record for record in records if (id_of(record), record.state) not in stored.get(record.position, ())]
