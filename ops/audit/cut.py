"""A consistent cut of a running system: with every message its record, and with every fact its cause.

The stream's end is read before the logs' ends: a fact is recorded before it is published. The four logs cannot be read
at one instant, so a fact may be within the cut and its cause not yet; then the cut is moved to where the cause stands.
That ends: whatever is within it was recorded before the last log was looked at.
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
"""By service."""

STANDSTILL_S: Final = 2.0
"""A relay that got no further for so long is not waited for: what it owes is a finding."""
LOOK_EVERY_S: Final = 0.02


class Cut(Struct):
    """Where each copy of history is read to."""

    made_at: datetime
    logs: dict[str, int]
    """By service: the last position."""
    published: dict[str, int]
    """By service: the position up to which the stream must have its log."""
    sequence: int
    """The stream's last."""
    created: str
    """When the stream was made: another one has another time."""
    removed: int
    """Sequences that the stream has not got any more."""


async def take(stream: Stream, logs: ServiceLogs, *, backup: bool = False) -> Cut:
    """The cut of now; of a backup, which nobody adds to, that of its end. Raises the client's errors, StoreError."""
    if backup:
        published = {name: await _last_position(stream, name) for name in logs}
    else:
        published = {name: await log.max_notification_id() for name, log in logs.items()}
        await asyncio.gather(*(_until_published(stream, name, position) for name, position in published.items()))
    info = await stream.js.stream_info(EVENTS)
    state = info.state
    ends = {name: await log.max_notification_id() for name, log in logs.items()}
    removed = state.last_seq - state.messages
    return Cut(datetime.now(UTC), ends, published, state.last_seq, str(info.created), removed)


async def _until_published(stream: Stream, service: str, position: int) -> None:
    """Returns when the stream has this position of a service's log, or gets no further."""
    loop = asyncio.get_running_loop()
    reached, moved_at = -1, loop.time()
    while reached < position and loop.time() - moved_at < STANDSTILL_S:
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
    """The logs in which these causes stand beyond the cut, and the positions it has to be moved to."""
    wanted = [(stream, version) for stream, version in map(parsed, causes) if version]
    found: dict[str, int] = {}
    for name, log in logs.items() if wanted else ():
        for record in await log.find_all(wanted):
            if record.position > cut.logs[name]:
                found[name] = max(record.position, found.get(name, 0))
    return found


async def stored_at(stream: Stream, sequence: int) -> datetime | None:
    """When the broker stored what stands at this sequence; None: nothing is there.

    A tail that was lost and written again may have the same fact at the same sequence, and another one before it.
    """
    try:
        found = await stream.js.get_msg(EVENTS, sequence, direct=True)
    except NotFoundError:
        return None
    return found.time
