"""Finds in the generations of the stream what they have of a service's log, so that its relay sends only the rest.

They are read as one history. The last WINDOW positions are read back, because the facts in flight when a session ended
may have left a hole there. Before these, each generation must go on with the position after the last one of those
before it, and the oldest one must begin with the log, or after what an archive has. If one does not, facts were lost: a
stream was made anew, or a power cut took the end of one that was not the newest any more. Then all of the service's
facts are read, once, and those that are missing are gaps, which the relay fills. If a process dies in the middle of
that, the service's last fact in the stream is an old one: all are read again. Facts that a generation lost from its
middle are gaps, too (`holes`).
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import structlog

from contracts.wire import MSG_ID
from infra.archive.manifest import ArchivedLog
from infra.broker.client import header
from infra.broker.errors import LogLost, RelayFailed
from infra.broker.fact_message import id_of, subject_of
from infra.broker.history import read_back, read_on
from infra.broker.holes import lost_in_holes, runs
from infra.broker.leader import Leader, published
from infra.broker.numbering import stream_of_sequence
from infra.broker.window import WINDOW
from infra.store.event_store import EventStore
from infra.store.records import Notification

logger = structlog.get_logger()

MOST_WINDOWS: Final = 8
"""At most about this many windows of facts are read back while some of the last window's positions are missing."""


NOT_ARCHIVED: Final = ArchivedLog()

Stored = dict[int, set[tuple[str, bytes]]]
"""Log position → id and body of each fact that the stream has with it: more than one if somebody forged others."""


class Gap(NamedTuple):
    """Positions of a log that the stream lost: all after `after`, up to `until`, included."""

    after: int
    until: int


class ResumePosition(NamedTuple):
    """What the stream has of a log: each position up to `acked`, included, but for `gaps`, and the facts `stored`.

    As far as is known it lacks all others. An archive may have the first ones in the stream's place.
    """

    acked: int
    stored: Stored
    gaps: Sequence[Gap] = ()


async def find_resume_position(
    service: str,
    store: EventStore,
    leaders: Sequence[Leader],
    window: int = WINDOW,
    archived: ArchivedLog = NOT_ARCHIVED,
) -> ResumePosition:
    """Return what the stream has of the service's log; for that, read the service's facts back from the stream's end.

    `leaders` are those of the generations that are not archived, the oldest first; each position that is `archived`
    counts as there. Foreign messages are passed over. Raises LogLost if the log lacks the fact with the highest
    position that was found, or one that the archive has; StoreError; LeaderUnavailable; the client's errors.
    """
    floor = archived.until
    await _check_archived(service, store, archived)
    stored: Stored = {}
    sequences: dict[int, int] = {}
    newest, acked = 0, 0
    async for facts in read_back(leaders, f"{service}.>"):
        for fact in facts:
            stored.setdefault(fact.position, set()).add((fact.fact_id, fact.body))
            sequences.setdefault(fact.position, fact.sequence)
        if stored:
            newest = max(stored)
            if not await _has(store, stored, newest):
                raise _lost(service, next(iter(stored[newest]))[0], newest, sequences[newest])
            acked = await _whole_until(store, stored, newest, window)
            if acked == newest or len(stored) >= MOST_WINDOWS * window:
                break
    acked = max(acked, floor)
    last = max(sequences, key=lambda position: sequences[position], default=newest)
    if last <= newest - window:  # it was sent to fill a gap, and the rest of that may be missing
        gaps = await _missing(service, store, leaders, floor, acked)
    else:
        gaps = await _gaps(service, store, leaders, floor, acked)
    if not gaps:
        lost = await lost_in_holes(service, store, leaders, range(floor + 1, acked + 1), window)
        gaps = _as_gaps(lost)
    if acked == 0 and (logged := await store.max_notification_id()):
        sign = "the stream lacks the first fact of this log" if newest else "the stream has no fact of this service"
        logger.warning(f"{sign}: the broker's store was lost or is new; publishing the whole log again", facts=logged)
    return ResumePosition(acked, {position: found for position, found in stored.items() if position > acked}, gaps)


async def _gaps(service: str, store: EventStore, leaders: Sequence[Leader], floor: int, acked: int) -> list[Gap]:
    """Return what the generations lack of the log after the position `floor`, up to `acked` (included).

    A hole in the middle of a generation is not found: see `holes`.
    """
    reached = floor
    for leader in leaders:
        if reached >= acked:
            break
        if not await _goes_on(store, leader, reached):
            if await leader.last(f"{service}.>") is None:
                continue
            return await _missing(service, store, leaders, floor, acked)
        reached = max(reached, acked if leader is leaders[-1] else await _newest(leader, f"{service}.>"))
    return [] if reached >= acked else await _missing(service, store, leaders, floor, acked)


async def _newest(leader: Leader, subject: str) -> int:
    """Return the highest position among the generation's last facts; 0 without one."""
    async for facts in leader.read_back(subject):
        if facts:
            return max(one.position for one in facts)
    return 0


async def _missing(service: str, store: EventStore, leaders: Sequence[Leader], floor: int, acked: int) -> list[Gap]:
    """Read all of the service's facts; return the gaps among the positions after `floor`, up to `acked` (included)."""
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
    return _as_gaps(floor + n for n, there in enumerate(found, 1) if not there)


def _as_gaps(positions: Iterable[int]) -> list[Gap]:
    """Return the gaps that these rising positions are."""
    return [Gap(first - 1, last) for first, last in runs(positions)]


async def _has(store: EventStore, stored: Stored, newest: int) -> bool:
    """Whether the log has one of the facts that were found at this position. Raises StoreError."""
    # Another process, against the rule, may have recorded and published since: without this its records are not found.
    await store.max_notification_id()
    records = await store.select_notifications(newest - 1, 1)
    return bool(records) and records[0].position == newest and not not_stored(records, stored)


async def _check_archived(service: str, store: EventStore, archived: ArchivedLog) -> None:
    """Raise LogLost if the log lacks the newest fact that the archive has of it; StoreError."""
    if not archived.last:
        return
    await store.max_notification_id()  # as in `_has`
    records = await store.select_notifications(archived.last - 1, 1)
    if [(record.position, id_of(record)) for record in records] != [(archived.last, archived.last_id)]:
        raise LogLost(
            f"the archive has {archived.last_id} at position {archived.last} of {service}_svc's log, but the log has "
            "not: this store is another one, or lost its newest records, or ARCHIVE_DIR is another system's. Put the "
            "right store or ARCHIVE_DIR back; or stop the service and rebuild the store from archive and stream "
            f"(just rebuild {service})"
        )


def _lost(service: str, its_id: str, position: int, sequence: int) -> LogLost:
    where = f"sequence {sequence} of {stream_of_sequence(sequence)}"
    return LogLost(
        f"the stream has {its_id} at position {position} of {service}_svc's log ({where}), but "
        "the log has not: this store is another one, or lost its newest records. Put the right store back; or stop the "
        f"service and rebuild the store from the stream (just rebuild {service}). If no log ever had that fact, "
        f"somebody forged it: just audit --foreign {sequence}, and the service goes on by itself"
    )


async def _whole_until(store: EventStore, stored: Stored, newest: int, window: int) -> int:
    """Return the position up to which the stream has the log: before the first of the last `window` not found.

    No hole lies further back. `newest` is the highest position found. Raises StoreError.
    """
    records = await store.select_notifications(max(0, newest - window), window)
    missing = not_stored([record for record in records if record.position <= newest], stored)
    return missing[0].position - 1 if missing else newest


async def check_repeat(service: str, store: EventStore, leader: Leader, position: int, sequence: int) -> None:
    """Check that the message at this sequence of the stream is the fact at this position of the log.

    The broker took the fact for a repeat of the message. Raises RelayFailed if it is not; StoreError,
    LeaderUnavailable, the client's errors.
    """
    record = (await store.select_notifications(position - 1, 1))[0]
    found = await leader.at(sequence)
    its = [] if found is None else published(found)
    if [(position, id_of(record), record.state)] != [one[:3] for one in its]:
        told = "a message" if found is None else f"{found.subject[:200]!a}"
        raise RelayFailed(
            f"the broker does not take {id_of(record)} ({record.topic}) at position {position} of {service}_svc's log: "
            f"{told} at sequence {sequence} of {leader.name}, which {service}_svc did not publish, has its "
            "Nats-Msg-Id. The fact is kept, and published once the broker forgets that id (duplicate_window of "
            "the stream). Find out who publishes there, and deny it in the broker's permissions; the audit names "
            "the message (just audit)"
        )


async def _goes_on(store: EventStore, leader: Leader, reached: int) -> bool:
    """Whether the generation has the log's fact after the position `reached`; the log must have one.

    A stream that was made anew may have only later facts, until the relay has published the others. Raises StoreError,
    LeaderUnavailable, the client's errors.
    """
    (first,) = await store.select_notifications(reached, 1)
    found = await leader.next(leader.first_sequence, subject_of(first))
    return found is not None and header(found.raw_headers, MSG_ID.encode()) == id_of(first)


def not_stored(records: list[Notification], stored: Stored) -> list[Notification]:
    """Return the records that are not among the facts `stored`, with the same id and body."""
    if not stored:
        return records
    return [record for record in records if (id_of(record), record.state) not in stored.get(record.position, ())]
