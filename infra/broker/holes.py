"""Finds the facts of a service that a generation of the stream has lost before its last message.

A broker that is killed and started again may lose messages if its machine then loses power: the end of one file, though
the next file was written. For the new process does not sync what the killed one wrote last. The lost sequences then
have no message, while later ones do. Such a hole may be further back than the relay's window.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final

import structlog

from infra.broker.fact_message import id_of, subject_of
from infra.broker.history import read_back, read_on
from infra.broker.leader import Leader, Published
from infra.store.event_store import EventStore
from infra.store.records import Notification

logger = structlog.get_logger()

RUN: Final = 256
"""Records of one read of the log."""


async def lost_in_holes(
    service: str, store: EventStore, leaders: Sequence[Leader], among: range, window: int
) -> list[int]:
    """Return those of the positions `among` that may have been in a hole and whose facts no generation has, rising.

    `leaders` are those of the generations, the oldest first. The facts on both sides of a hole, at least `window` on
    each if there are so many, tell which positions may have been in it. The last `window` positions before the hole
    count, too: they may be missing for another reason. Raises StoreError; LeaderUnavailable; the client's errors.
    """
    suspects: set[int] = set()
    for n, leader in enumerate(leaders):
        for first, last in await leader.holes():
            before = await _near(read_back(leaders[: n + 1], f"{service}.>", first - 1), window)
            newest = max(before, default=0)
            after = await _near(read_on(leaders[n:], f"{service}.>", last + 1), window, newest)
            suspects |= set(range(newest - window + 1, max(after, default=newest) + 1)) - before - after
    lost = await _nowhere(store, leaders, sorted(suspects.intersection(among)))
    if lost:
        logger.warning("the stream has lost facts from its middle: publishing them again", facts=len(lost))
    return lost


async def _near(found: AsyncIterator[list[Published]], window: int, above: int = 0) -> set[int]:
    """Return the positions of those of the facts `found` that are above `above`: the first `window`, or some more.

    Facts that were published again may be on both sides of a hole, so the nearest one alone tells nothing.
    """
    positions: set[int] = set()
    async for facts in found:
        positions.update(fact.position for fact in facts if fact.position > above)
        if len(positions) >= window:
            break
    return positions


async def _nowhere(store: EventStore, leaders: Sequence[Leader], positions: list[int]) -> list[int]:
    """Return those of the positions, rising, whose facts no generation has, wherever they may be there."""
    by_subject: dict[str, dict[tuple[str, bytes], int]] = {}
    for first, last in runs(positions):
        async for record in records_of(store, first, last):
            by_subject.setdefault(subject_of(record), {})[id_of(record), record.state] = record.position
    for name, wanted in by_subject.items():
        async for facts in read_back(leaders, name):
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
