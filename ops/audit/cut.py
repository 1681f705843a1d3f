"""A consistent cut of a running system: it contains the record of every message and the cause of every fact.

The stream's end is read before the logs' ends, because a fact is recorded before it is published. The logs cannot be
read at one instant, so a fact may be within the cut while its cause is behind it. Then the cut is moved to the cause.
The moving ends, because everything within the cut was recorded before the last log's end was read.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct
from nats.js.errors import NotFoundError

from contracts.wire import POSITION
from infra.broker.streams import EVENTS
from infra.store.sqlite import SQLiteStore
from ops.invariants.copies import parsed
from ops.reading import Stream

ServiceLogs = Mapping[str, SQLiteStore]
"""The services' logs, by service."""

STANDSTILL_S: Final = 2.0
"""An audit waits this long for a relay that makes no progress. Facts that it has not published then are a finding."""
LOOK_EVERY_S: Final = 0.02


class Cut(Struct):
    """The ends up to which each copy of history is read."""

    made_at: datetime
    logs: dict[str, int]
    """By service: the last position."""
    published: dict[str, int]
    """By service: the position up to which the stream must have its log."""
    sequence: int
    """The last sequence of the stream."""
    created: str
    """When the stream was made. Another stream has another time."""
    removed: int
    """How many sequences the stream does not have any more."""


async def take(stream: Stream, logs: ServiceLogs, *, backup: bool = False, standstill_s: float = STANDSTILL_S) -> Cut:
    """Take the cut at this moment, or at the end of a backup, which does not grow. Raises the client's errors,
    StoreError.
    """
    if backup:
        published = {name: await _last_position(stream, name) for name in logs}
    else:
        published = {name: await log.max_notification_id() for name, log in logs.items()}
        await asyncio.gather(
            *(_until_published(stream, name, position, standstill_s) for name, position in published.items())
        )
    info = await stream.js.stream_info(EVENTS)
    state = info.state
    ends = {name: await log.max_notification_id() for name, log in logs.items()}
    removed = state.last_seq - state.messages
    return Cut(datetime.now(UTC), ends, published, state.last_seq, str(info.created), removed)


async def _until_published(stream: Stream, service: str, position: int, standstill_s: float) -> None:
    """Wait until the stream has this position of a service's log, or makes no progress for `standstill_s`."""
    loop = asyncio.get_running_loop()
    reached, moved_at = -1, loop.time()
    while reached < position and loop.time() - moved_at < standstill_s:
        now_at = await _last_position(stream, service)
        if now_at > reached:
            reached, moved_at = now_at, loop.time()
        elif reached < position:
            await asyncio.sleep(LOOK_EVERY_S)


async def _last_position(stream: Stream, service: str) -> int:
    try:
        last = await stream.js.get_last_msg(EVENTS, f"{service}.>", direct=True)
    except NotFoundError:
        return 0
    at = (last.headers or {}).get(POSITION, "")
    return int(at) if at.isdecimal() else 0


async def moved_to(logs: ServiceLogs, cut: Cut, causes: Iterable[str]) -> dict[str, int]:
    """The logs that have some of these causes behind the cut, and the positions to move it to."""
    wanted = [(stream, version) for stream, version in map(parsed, causes) if version]
    found: dict[str, int] = {}
    for name, log in logs.items() if wanted else ():
        for record in await log.find_all(wanted):
            if record.position > cut.logs[name]:
                found[name] = max(record.position, found.get(name, 0))
    return found


async def stored_at(stream: Stream, sequence: int) -> datetime | None:
    """The time at which the broker stored the message at this sequence; None: there is no such message.

    Without this time, a tail that was lost and written again could look the same: the same fact at the same sequence,
    but other facts before it.
    """
    try:
        found = await stream.js.get_msg(EVENTS, sequence, direct=True)
    except NotFoundError:
        return None
    return found.time
