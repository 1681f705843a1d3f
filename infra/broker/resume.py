"""Finds in EVENTS what the stream has of a service's log, so that its relay sends only the rest.

If the stream lacks the log's first fact, it was made anew: the relay sends it every fact that was not read back.
The last WINDOW positions are read back, because the facts in flight when a session ended may have left a hole there.
Further back only the broker itself may have lost facts: it knows the sequences that have no message (`holes`).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog

from contracts.wire import MSG_ID
from infra.broker.client import header
from infra.broker.errors import LogLost, RelayFailed
from infra.broker.holes import id_of, lost_in_holes, subject_of
from infra.broker.leader import Leader, published
from infra.broker.window import WINDOW
from infra.store.event_store import EventStore
from infra.store.records import Notification

logger = structlog.get_logger()

MOST_WINDOWS: Final = 8
"""At most about this many windows of facts are read back while some of the last window's positions are missing."""


Stored = dict[int, set[tuple[str, bytes]]]
"""Position → id and body of each fact that was found there in the stream: more than one if somebody forged others."""


class ResumePosition(NamedTuple):
    """What the stream has of a log: each position up to `acked`, included, but for `lost`; and the facts `stored`.

    As far as is known it lacks the others. The positions in `lost` rise.
    """

    acked: int
    stored: Stored
    lost: Sequence[int]


async def find_resume_position(service: str, store: EventStore, leader: Leader, window: int = WINDOW) -> ResumePosition:
    """Read the service's facts back from the stream's end until the last `window` positions were found.

    Messages of other publishers are passed over. Raises LogLost if the stream has a fact of this service that its log
    lacks; StoreError; LeaderUnavailable; the client's errors.
    """
    stored: Stored = {}
    sequences: dict[int, int] = {}
    newest, acked = 0, 0
    async for facts in leader.read_back(f"{service}.>"):
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
    if not newest:
        await _tell_of_lost_store(store, "the stream has no fact of this service")
    elif not await _begins_with_the_log(store, leader):
        await _tell_of_lost_store(store, "the stream lacks the first fact of this log")
        acked = 0
    lost = await lost_in_holes(service, store, leader, acked, window) if acked else ()
    return ResumePosition(acked, {position: found for position, found in stored.items() if position > acked}, lost)


async def _tell_of_lost_store(store: EventStore, sign: str) -> None:
    if facts := await store.max_notification_id():
        logger.warning(f"{sign}: the broker's store was lost or is new; publishing the whole log again", facts=facts)


async def _has(store: EventStore, stored: Stored, newest: int) -> bool:
    """Whether the log has one of the facts that were found at this position. Raises StoreError."""
    # Another process, against the rule, may have recorded and published since: without this its records are not found.
    await store.max_notification_id()
    records = await store.select_notifications(newest - 1, 1)
    return bool(records) and records[0].position == newest and not not_stored(records, stored)


def _lost(service: str, its_id: str, position: int, sequence: int) -> LogLost:
    return LogLost(
        f"the stream has {its_id} at position {position} of {service}_svc's log (sequence {sequence} of EVENTS), but "
        "the log has not: this store is another one, or lost its newest records. Put the right store back; or stop the "
        f"service and rebuild the store from the stream (just rebuild {service}). If no log ever had that fact, "
        f"somebody forged it: just audit --foreign {sequence}, and the service goes on by itself"
    )


async def _whole_until(store: EventStore, stored: Stored, newest: int, window: int) -> int:
    """Return the position up to which the stream has the log: before the first of the last `window` not found.

    Further back only holes of the stream itself may lie. `newest` is the highest position found. Raises StoreError.
    """
    records = await store.select_notifications(max(0, newest - window), window)
    missing = not_stored([record for record in records if record.position <= newest], stored)
    return missing[0].position - 1 if missing else newest


async def check_repeat(service: str, store: EventStore, leader: Leader, position: int, sequence: int) -> None:
    """Check that the message at `sequence`, which the broker took for a fact of the log, is the fact at `position`.

    Raises RelayFailed if it is another message with the fact's id; StoreError, LeaderUnavailable, the client's errors.
    """
    record = (await store.select_notifications(position - 1, 1))[0]
    found = await leader.at(sequence)
    its = [] if found is None else published(found)
    if [(position, id_of(record), record.state)] != [one[:3] for one in its]:
        told = "a message" if found is None else f"{found.subject[:200]!a}"
        raise RelayFailed(
            f"the broker does not take {id_of(record)} ({record.topic}) at position {position} of {service}_svc's log: "
            f"{told} at sequence {sequence} of EVENTS, which {service}_svc did not publish, has its Nats-Msg-Id. The "
            "fact is kept, and published once the broker forgets that id (duplicate_window of EVENTS). Find out who "
            "publishes there, and deny it in the broker's permissions; the audit names the message (just audit)"
        )


async def _begins_with_the_log(store: EventStore, leader: Leader) -> bool:
    """Whether the stream has the log's first fact; the log must not be empty.

    A stream that was made anew may have only later facts. Raises StoreError, LeaderUnavailable, the client's errors.
    """
    (first,) = await store.select_notifications(0, 1)
    found = await leader.next(1, subject_of(first))
    return found is not None and header(found.raw_headers, MSG_ID.encode()) == id_of(first)


def not_stored(records: list[Notification], stored: Stored) -> list[Notification]:
    """Return the records that are not among the facts `stored`, with the same id and body."""
    if not stored:
        return records
    return [record for record in records if (id_of(record), record.state) not in stored.get(record.position, ())]
