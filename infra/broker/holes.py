"""Finds the facts of a service that EVENTS has lost from its middle.

A broker that is killed, and whose machine then loses power, may lose the end of one file of messages though the next
file was written: what the killed process wrote last was not synced by the one after it. The sequences of lost messages
then have none, while later ones do. Such a hole may be further back than the relay's window.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

import structlog

from contracts.wire import message_id, subject
from infra.broker.leader import Leader
from infra.store.event_store import EventStore
from infra.store.records import Notification

logger = structlog.get_logger()

RUN: Final = 256
"""Records of one read of the log."""


async def lost_in_holes(service: str, store: EventStore, leader: Leader, acked: int, window: int) -> list[int]:
    """Return the positions up to `acked` whose facts a hole of the stream swallowed and no other place has, rising.

    The facts on both sides of a hole tell which positions may have been in it. So many facts as `window` are read on
    each side. As many positions before it count as well: they may be missing for another reason. Raises StoreError;
    LeaderUnavailable; the client's errors.
    """
    suspects: set[int] = set()
    for first, last in await leader.holes():
        suspects |= await _positions_in(leader, f"{service}.>", first, last, window)
    lost = await _nowhere(store, leader, sorted(position for position in suspects if position <= acked))
    if lost:
        logger.warning("the stream has lost facts from its middle: publishing them again", facts=len(lost))
    return lost


async def _positions_in(leader: Leader, facts_of: str, first: int, last: int, window: int) -> set[int]:
    """Return the positions that may have been in the hole from the sequence `first` to `last`.

    Facts that were published again may be on both sides, so the nearest one alone tells nothing.
    """
    before: set[int] = set()
    async for facts in leader.read_back(facts_of, first - 1):
        before.update(fact.position for fact in facts)
        if len(before) >= window:
            break
    newest = max(before, default=0)
    after: set[int] = set()
    async for facts in leader.read_on(facts_of, last + 1):
        after.update(fact.position for fact in facts if fact.position > newest)
        if len(after) >= window:
            break
    return set(range(max(1, newest - window + 1), max(after, default=newest) + 1)) - before - after


async def _nowhere(store: EventStore, leader: Leader, positions: list[int]) -> list[int]:
    """Return those of the positions, rising, whose facts the stream does not have, wherever it may have them."""
    by_subject: dict[str, dict[tuple[str, bytes], int]] = {}
    for first, last in runs(positions):
        async for record in records_of(store, first, last):
            by_subject.setdefault(subject_of(record), {})[id_of(record), record.state] = record.position
    for name, wanted in by_subject.items():
        async for facts in leader.read_back(name):
            for fact in facts:
                wanted.pop((fact.fact_id, fact.body), None)
            if not wanted:
                break
    return sorted(position for wanted in by_subject.values() for position in wanted.values())


def runs(positions: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Join rising positions that follow each other; yield the first and the last of each run."""
    first = last = None
    for position in positions:
        if last is not None and first is not None and position > last + 1:
            yield first, last
            first = None
        first, last = position if first is None else first, position
    if first is not None and last is not None:
        yield first, last


async def records_of(store: EventStore, first: int, last: int) -> AsyncIterator[Notification]:
    """Yield the log's records from position `first` to `last`, both included. Raises StoreError."""
    while first <= last and (read := await store.select_notifications(first - 1, min(RUN, last - first + 1))):
        for record in read:
            yield record
        first = read[-1].position + 1


def subject_of(record: Notification) -> str:
    """Return the subject on which a relay publishes the record."""
    return subject(record.topic, record.state, record.originator_id)


def id_of(record: Notification) -> str:
    """Return the id with which a relay publishes the record."""
    return message_id(record.originator_id, record.originator_version)
