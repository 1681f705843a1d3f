"""A consistent cut of a running system: it contains the record of every message and the cause of every fact.

The stream's end is read before the logs' ends, because a fact is recorded before it is published. The logs cannot be
read at one instant, so a fact may be within the cut while its cause is after it. Then the cut is moved to the cause.
The moving ends, because everything within the cut was recorded before the last log's end was read.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct
from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from contracts.origin import header, number
from contracts.wire import POSITION, STREAM, VERSION, stream_of
from infra.archive.lines import ArchivedMessage
from infra.archive.manifest import GenerationManifest
from infra.archive.reader import Archive
from infra.broker.leader import Leader, leader_of
from infra.broker.numbering import first_sequence, generation_of, number_of, stream_of_sequence
from infra.store.sqlite import SQLiteStore
from infra.timestamps import instant
from ops.invariants.copies import parsed
from ops.reading import Stream, archived_before, kept_generations

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
    """The positions of the logs and the sequences of the stream up to which (inclusive) an audit reads."""

    made_at: datetime
    logs: dict[str, int]
    """Service → the last position of its log that belongs to the cut; 0: none. It grows if the cut is moved."""
    published: dict[str, int]
    """Service → the position up to which (inclusive) the stream must have its log. Later facts may be missing there."""
    sequence: int
    """The newest generation's last sequence as of the cut; 0: the stream has never had a message."""
    generations: dict[str, "Generation"]
    """By the name of its stream: each generation, the oldest first."""

    @property
    def ends(self) -> dict[str, int]:
        """By stream: the last sequence that belongs to the cut."""
        return {name: one.sequence for name, one in self.generations.items()}

    @property
    def created(self) -> str:
        """When the oldest generation was made, a text as in `Generation.created`; empty without a generation."""
        return next((one.created for one in self.generations.values()), "")

    def messages_after(self, since: "Cut | None") -> int:
        """Count the sequences of this cut that are after the cut `since`, over all generations; None: count all."""
        before = {} if since is None else since.ends
        return sum(
            max(0, end - before.get(name, first_sequence(number_of(name) or 0) - 1)) for name, end in self.ends.items()
        )


class Generation(Struct):
    """One generation as of a cut: its last `sequence`, and how many messages were `removed` of it up to there.

    `created`: when its stream was made, as `str` of a datetime. One that was deleted and made again has another time.
    """

    sequence: int
    created: str
    removed: int


async def take(stream: Stream, logs: ServiceLogs, *, backup: bool = False, standstill_s: float = STANDSTILL_S) -> Cut:
    """Take a cut of the running system, as of now, without the moves to causes after it (see `moved_to`).

    It first waits, for each service, until the stream has its log's present end, or gets no more of that log for
    `standstill_s` seconds. Either way that end becomes the service's `published`.
    `backup`: the stream is a restored backup, which does not grow: there is no wait, and `published` is what the stream
    has. Raises StoreError, LeaderUnavailable, ArchiveDamaged, the client's errors.
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
    infos = await kept_generations(stream)
    archived = archived_before(stream, infos)
    ends = {name: await log.max_notification_id() for name, log in logs.items()}
    generations = {one.stream: Generation(one.last_sequence, one.created, one.removed) for one in archived}
    generations |= {str(info.config.name): _generation(info) for info in infos}
    return Cut(datetime.now(UTC), ends, published, _newest(generations), generations)


def _newest(generations: Mapping[str, Generation]) -> int:
    """Return the last sequence of the newest of these generations; 0 without one."""
    return list(generations.values())[-1].sequence if generations else 0


def _generation(info: StreamInfo) -> Generation:
    state, before = info.state, first_sequence(number_of(str(info.config.name)) or 0) - 1
    return Generation(state.last_seq, str(info.created), max(0, state.last_seq - before) - state.messages)


async def _until_published(stream: Stream, service: str, log: SQLiteStore, position: int, standstill_s: float) -> None:
    """Wait until the stream has a service's log up to `position`, or gets no more of it for `standstill_s` seconds.

    Raises StoreError, LeaderUnavailable, ArchiveDamaged, the client's errors.
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
    """Return the position of the service's last message in the stream, or that through which the archive has its log.

    The higher one; 0: there is neither. A message whose fact the log does not have at that position, such as a foreign
    one, does not count; those before it are not asked for. After a relay has repeated lost facts, the last message may
    have a lower position than earlier ones. Raises StoreError, LeaderUnavailable, ArchiveDamaged, the client's errors.
    """
    last = None
    for info in reversed(await kept_generations(stream)):
        with suppress(NotFoundError):  # it was archived since
            last = last or await Leader(stream.nc, info).last(f"{service}.>")
    place = [header(last.raw_headers if last else b"", name.encode()) for name in (POSITION, STREAM, VERSION)]
    position = number(place[0])
    there = await log.find_all([(stream_of(place[1]), number(place[2]))])
    archived = 0 if stream.archive is None else stream.archive.log_of(service).until
    return max(archived, position) if [record.position for record in there] == [position] else archived


async def moved_to(logs: ServiceLogs, cut: Cut, causes: Iterable[str]) -> dict[str, int]:
    """Find the causes that are in a log after the cut. `causes`: fact ids; those that no log has are ignored.

    Returns service → the position to which its log's end must be moved; empty: none of them is after the cut. The cut
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
    """Ask when the broker stored the message at this sequence; None: there is no such message.

    Without this time, a tail that was lost and written again could look the same: the same fact at the same sequence,
    but other facts before it. Raises LeaderUnavailable, ArchiveDamaged, the client's errors.
    """
    archived = None if stream.archive is None else stream.archive.of(generation_of(sequence))
    if stream.archive is not None and archived is not None:
        message = await asyncio.to_thread(_archived_at, stream.archive, archived, sequence)
        return None if message is None else instant(message.stored_ns // 1_000)
    found = await (await leader_of(stream.nc, stream.js, stream_of_sequence(sequence))).at(sequence)
    return None if found is None else instant(found.stored_us)


def _archived_at(archive: Archive, manifest: GenerationManifest, sequence: int) -> ArchivedMessage | None:
    """Return the archive's message with this sequence; None without it. Raises ArchiveDamaged."""
    found = archive.read(manifest, first=sequence, last=sequence)
    return next((message for messages in found for message in messages), None)
