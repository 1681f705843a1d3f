"""A consistent cut of a running system: it contains the record of every message and the cause of every fact.

The stream's end is read before the logs' ends, because a fact is recorded before it is published. The logs cannot be
read at one instant, so a fact may be within the cut while its cause is after it. Then the cut is moved to the cause.
The moving ends, because everything within the cut was recorded before the last log's end was read.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from contracts.origin import header, number
from contracts.wire import POSITION, STREAM, VERSION, stream_of
from infra.broker.leader import leader_of
from infra.broker.numbering import EVENTS
from infra.store.sqlite import SQLiteStore
from infra.timestamps import instant
from ops.invariants.copies import parsed
from ops.reading import Stream

ServiceLogs = Mapping[str, SQLiteStore]
"""Service, such as `order` → its opened log.

If `stores.log` opened it, what reads raises Unreachable where this module's functions name StoreError.
"""

STANDSTILL_S: Final = 2.0
"""An audit waits this many seconds for a relay that makes no progress. Facts up to `Cut.published` that the stream does
not have then are findings.
"""
LOOK_EVERY_S: Final = 0.02


class Cut(Struct):
    """The positions of the logs and the sequence of EVENTS up to which (inclusive) an audit reads."""

    made_at: datetime
    logs: dict[str, int]
    """Service → the last position of its log that belongs to the cut; 0: none. It grows if the cut is moved."""
    published: dict[str, int]
    """Service → the position up to which (inclusive) the stream must have its log. Later facts may be missing there."""
    sequence: int
    """The last sequence of the stream that belongs to the cut; 0: the stream is empty."""
    created: str
    """When the stream was made, as a text. A stream that was deleted and made again has another time."""
    removed: int
    """How many messages the stream had up to `sequence` and does not have any more."""


async def take(stream: Stream, logs: ServiceLogs, *, backup: bool = False, standstill_s: float = STANDSTILL_S) -> Cut:
    """Take a cut of the running system, as of now, without the moves to causes after it (see `moved_to`).

    It first waits, for each service, until the stream has its log's present end, or gets no more of that log for
    `standstill_s` seconds.
    `backup`: the stream is a restored backup, which does not grow: there is no wait, and `published` is what the stream
    has. Raises StoreError, LeaderUnavailable, the client's errors.
    """
    if backup:
        published = {name: await _last_position(stream, name, log) for name, log in logs.items()}
    else:
        published = {name: await log.max_notification_id() for name, log in logs.items()}
        await asyncio.gather(
            *(
                _until_published(stream, name, logs[name], position, standstill_s)
                for name, position in published.items()
            )
        )
    info = await stream.js.stream_info(EVENTS)
    state = info.state
    ends = {name: await log.max_notification_id() for name, log in logs.items()}
    removed = state.last_seq - state.messages
    return Cut(datetime.now(UTC), ends, published, state.last_seq, str(info.created), removed)


async def _until_published(stream: Stream, service: str, log: SQLiteStore, position: int, standstill_s: float) -> None:
    """Wait until the stream has a service's log up to `position`, or gets no more of it for `standstill_s` seconds.

    Raises StoreError, LeaderUnavailable, the client's errors.
    """
    loop = asyncio.get_running_loop()
    reached, moved_at = -1, loop.time()
    while reached < position and loop.time() - moved_at < standstill_s:
        now_at = await _last_position(stream, service, log)
        if now_at > reached:
            reached, moved_at = now_at, loop.time()
        elif reached < position:
            await asyncio.sleep(LOOK_EVERY_S)


async def _last_position(stream: Stream, service: str, log: SQLiteStore) -> int:
    """Return the position of the service's last fact in the stream.

    0 if there is none, or if its last message is foreign: its position counts only if the log has that fact there.
    Raises StoreError, LeaderUnavailable, the client's errors.
    """
    last = await (await leader_of(stream.nc, stream.js)).last(f"{service}.>")
    place = [header(last.raw_headers if last else b"", name.encode()) for name in (POSITION, STREAM, VERSION)]
    position = number(place[0])
    there = await log.find_all([(stream_of(place[1]), number(place[2]))])
    return position if [record.position for record in there] == [position] else 0


async def moved_to(logs: ServiceLogs, cut: Cut, causes: Iterable[str]) -> dict[str, int]:
    """Find the causes that are in a log after the cut. `causes`: fact ids; those that no log has are ignored.

    Returns service → the position to which its log's end must be moved; empty: all of them are within the cut. The cut
    is not changed. Raises StoreError.
    """
    wanted = [(stream, version) for stream, version in map(parsed, causes) if version]
    found: dict[str, int] = {}
    for name, log in logs.items() if wanted else ():
        for record in await log.find_all(wanted):
            if record.position > cut.logs[name]:
                found[name] = max(record.position, found.get(name, 0))
    return found


async def stored_at(stream: Stream, sequence: int) -> datetime | None:
    """Ask when the broker stored the message of EVENTS at this sequence; None: there is no such message.

    Without this time, a tail that was lost and written again could look the same: the same fact at the same sequence,
    but other facts before it. Raises LeaderUnavailable, the client's errors.
    """
    found = await (await leader_of(stream.nc, stream.js)).at(sequence)
    return None if found is None else instant(found.stored_us)
