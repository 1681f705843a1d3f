"""Finds in the generations of the stream what they have of a service's log, so that its relay sends only the rest.

They are read as one history. The last WINDOW positions are read back, because the facts in flight when a session ended
may have left a hole there. Before these, each generation must go on with the position after the last one of those
before it, and the oldest one must begin with the log, or after what an archive has. If one does not, facts were lost: a
stream was made anew, or a power cut took the end of one that was not the newest any more. Then all of the service's
facts are read, and those that are missing are gaps, which the relay fills. Facts that a generation lost from its
middle are gaps, too (`holes`). What fills a gap is marked in the stream (RESENT). So the next session knows that such
facts say nothing of how far the log is published: it reads on to others before them. If the last fact is marked, it
reads all again, because the process may have died before the gap was filled.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog

from infra.archive.manifest import ArchivedLog
from infra.broker.errors import LogLost, RelayFailed
from infra.broker.fact_message import id_of
from infra.broker.gaps import Gap, Stored, as_gaps, find_gaps, find_missing, not_stored
from infra.broker.history import read_back
from infra.broker.holes import lost_in_holes
from infra.broker.leader import Leader, Published, published
from infra.broker.numbering import stream_of_sequence
from infra.broker.window import WINDOW
from infra.store.event_store import EventStore

logger = structlog.get_logger()

MOST_WINDOWS: Final = 8
"""At most about this many windows of facts are read back while some of the last window's positions are missing."""


NOT_ARCHIVED: Final = ArchivedLog()


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

    `leaders` are those of the generations that are not archived, the oldest first; each position up to
    `archived.until` counts as there. Foreign messages are passed over. Raises LogLost if the log lacks the fact with
    the highest position that was found, or the last one in the archive; StoreError; LeaderUnavailable; the client's
    errors.
    """
    floor = archived.until
    await _check_archived(service, store, archived)
    found, acked = await _read_until_whole(service, store, leaders, window)
    acked = max(acked, floor)
    if found.ends_resent:  # the rest of it may be missing
        gaps = await find_missing(service, store, leaders, floor, acked)
    else:
        gaps = await find_gaps(service, store, leaders, floor, acked)
    if not gaps:
        lost = await lost_in_holes(service, store, leaders, range(floor + 1, acked + 1), window)
        gaps = as_gaps(lost)
    if acked == 0 and (logged := await store.max_notification_id()):
        sign = f"the stream {'lacks the first fact of this log' if found.newest else 'has no fact of this service'}"
        logger.warning(f"{sign}: the broker's store was lost or is new; publishing the whole log again", facts=logged)
    return ResumePosition(
        acked, {position: facts for position, facts in found.stored.items() if position > acked}, gaps
    )


class _Found:
    """What was found of a log, read back from the stream's end."""

    def __init__(self, window: int) -> None:
        self._window = window
        self.stored: Stored = {}
        """Of the facts that filled a gap only the last `window` positions: nobody needs the others."""
        self.sequences: dict[int, int] = {}
        self.newest = 0
        """The highest position."""
        self.others = 0
        """The number of facts that filled no gap."""
        self._last: Published | None = None

    def add(self, facts: Sequence[Published]) -> None:
        """Add the facts, in stream order, that come in the stream before all that were added until now.

        Leaves out those that filled a gap `window` or more positions below the highest one.
        """
        for fact in reversed(facts):
            self._last = self._last or fact
            if fact.resent and fact.position <= self.newest - self._window:
                continue
            self.others += not fact.resent
            self.newest = max(self.newest, fact.position)
            self.stored.setdefault(fact.position, set()).add((fact.fact_id, fact.body))
            self.sequences.setdefault(fact.position, fact.sequence)

    @property
    def ends_resent(self) -> bool:
        """Whether the stream's last fact filled a gap: by its mark, or, as older code set none, by its low position."""
        return self._last is not None and (self._last.resent or self._last.position <= self.newest - self._window)


async def _has(store: EventStore, stored: Stored, newest: int) -> bool:
    """Whether the log has, at the position `newest`, one of the facts `stored` there. Raises StoreError."""
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
            f"the archive has {archived.last_id} at position {archived.last} of {service}_svc's log, but the log in "
            f"{store.place} has not: this store is another one, or lost its newest records, or ARCHIVE_DIR is another "
            "system's. Put the right store or ARCHIVE_DIR back; or stop the service and rebuild the store from archive "
            f"and stream (just rebuild {service})"
        )


async def _lost(service: str, store: EventStore, its_id: str, position: int, sequence: int) -> LogLost:
    where = f"sequence {sequence} of {stream_of_sequence(sequence)}"
    if await store.select_notifications(0, 1):
        wrong = "the log has not: this store is another one, or lost its newest records"
        right = "Put the right store back"
    else:
        wrong = "the log has no fact: this store is another one, or was made anew"
        right = "Start the service with the DATA_DIR that it has recorded in, or put the right store back"
    return LogLost(
        f"the stream has {its_id} at position {position} of {service}_svc's log ({where}), but {wrong}. It is "
        f"{store.place}. {right}; or stop the service and rebuild the store from the stream (just rebuild {service}). "
        f"If no log ever had that fact, somebody forged it: just audit --foreign {sequence}, and the service goes on "
        "by itself"
    )


async def _read_until_whole(
    service: str, store: EventStore, leaders: Sequence[Leader], window: int
) -> tuple[_Found, int]:
    """Read back from the stream's end as far as needed; return what was found, and what `_whole_until` says of it.

    That is a position of the log; 0 if nothing was found. It reads until the last window of positions has no hole, or
    about MOST_WINDOWS windows. Raises LogLost, StoreError, LeaderUnavailable; the client's errors.
    """
    found, acked = _Found(window), 0
    async for facts in read_back(leaders, f"{service}.>"):
        found.add(facts)
        if found.others:
            acked = await _whole_until(service, store, found, window)
            if acked == found.newest or found.others >= MOST_WINDOWS * window:
                return found, acked
    if found.stored:
        acked = await _whole_until(service, store, found, window)
    return found, acked


async def _whole_until(service: str, store: EventStore, found: _Found, window: int) -> int:
    """Return the position up to which the stream has the log: before the first that is missing, or the highest found.

    Only the last `window` positions are looked at: facts in flight leave no hole further back. Raises LogLost if
    the log lacks the fact with the highest position found; StoreError.
    """
    newest = found.newest
    if not await _has(store, found.stored, newest):
        raise await _lost(service, store, next(iter(found.stored[newest]))[0], newest, found.sequences[newest])
    records = await store.select_notifications(max(0, newest - window), window)
    missing = not_stored([record for record in records if record.position <= newest], found.stored)
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
