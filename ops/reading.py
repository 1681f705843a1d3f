"""Reads the stream beside the services, all its generations as one history: in their order, unacknowledged."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Final, NamedTuple

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamInfo
from nats.js.errors import NotFoundError

from contracts.wire import MSG_ID
from infra.archive.errors import ArchiveDamaged
from infra.archive.lines import ArchivedMessage
from infra.archive.manifest import GenerationManifest
from infra.archive.reader import Archive
from infra.broker.client import BrokerClient, header
from infra.broker.connection import CONNECT_TIMEOUT_S, Connect, connect
from infra.broker.errors import BrokerMisconfigured, ConnectionLost, ConsumerFailed, ConsumerGone, SessionEnded
from infra.broker.floor import archive_of, look_if_behind
from infra.broker.generations import find_generations
from infra.broker.numbering import EVENTS, number_of, stream_name
from infra.broker.pull import Pull, numbers
from infra.broker.troubles import denied, describe
from infra.settings import Settings, load
from infra.timestamps import microseconds
from ops.errors import Unreachable
from ops.following import follow as follow_on

BATCH: Final = 2_000  # messages a pull
LARGEST: Final = (1 << 63) - 1  # sequence
GONE_AFTER_S: Final = 30.0  # the server removes a consumer that was not read for this long

_MSG_ID: Final = MSG_ID.encode()


class Read(NamedTuple):
    """One message of the stream. `stored_ns`: when the broker stored it, in nanoseconds since 1970 (UTC).

    `fact_id` is its header Nats-Msg-Id; empty if it has none. `head` is its raw headers, with NATS's version line.
    """

    sequence: int
    subject: str
    fact_id: str
    body: bytes
    head: bytes
    stored_ns: int


class Stream(NamedTuple):
    """A connection to the broker, its JetStream context, and the `name` of the stream to read there.

    By the name EVENTS the archive and all generations are read as one history. Sequences rise from one generation to
    the next, and each sequence says its generation. `archive` None: no archive is read.
    """

    nc: BrokerClient
    js: JetStreamContext
    name: str = EVENTS
    archive: Archive | None = None

    @property
    def archived(self) -> Sequence[GenerationManifest]:
        """The manifests of the archived generations, the oldest first. Raises ArchiveDamaged."""
        return () if self.archive is None else self.archive.manifests


async def kept_generations(stream: Stream) -> list[StreamInfo]:
    """Return the infos of the generations that are read from the broker, the oldest first.

    These are the ones after the newest archived generation; without an archive, all. Call this before
    `Stream.archived`: an archive in a bucket reads its newest manifests here. Raises ArchiveDamaged, also if the
    streams know another archive; the client's errors.
    """
    found = await find_generations(stream.nc, stream.js)
    if stream.archive is not None:
        await look_if_behind(stream.nc, stream.archive, found)
    first = 0 if stream.archive is None else stream.archive.first_kept
    return [info for info in found if (number_of(str(info.config.name)) or 0) >= first]


class SequenceRange(NamedTuple):
    """What is to be read of one generation: from sequence or time `first` through sequence `until`."""

    stream: Stream
    first: int | datetime
    until: int


@contextlib.asynccontextmanager
async def stream(env: Mapping[str, str], connect: Connect = connect) -> AsyncIterator[Stream]:
    """Connect to the broker that `env` names, with `connect`; close the connection at the block's end.

    Raises SettingsError, Unreachable. In the block, the client's errors, SessionEnded (ConsumerFailed is one),
    BrokerMisconfigured, ArchiveDamaged, TimeoutError and ConnectionError (not BrokenPipeError) become Unreachable. A
    broker that does not answer the client's pings any more ends the block, too, whatever it waits for.
    """
    settings = load(Settings, "nats", 4_222, env)
    try:
        async with connect(settings, "orders", asyncio.Event()) as (nc, lost):
            try:
                async with _ended_when(lost):
                    yield Stream(nc, nc.jetstream(timeout=CONNECT_TIMEOUT_S), archive=archive_of(settings))
            except (TimeoutError, NatsError, ConnectionLost) as error:
                if nc.denied and isinstance(error, TimeoutError | ConnectionLost):
                    raise denied(nc.denied) from error
                raise
    except ArchiveDamaged as error:
        raise Unreachable(str(error)) from error
    except (TimeoutError, ConnectionError, NatsError, SessionEnded, BrokerMisconfigured) as error:
        if isinstance(error, BrokenPipeError):  # of standard output: the client has no such error
            raise
        if isinstance(error, NotFoundError):
            raise Unreachable(f"the broker has no stream {EVENTS} yet; has a service run with it?") from error
        at = settings.brokers[0].at
        raise Unreachable(
            f"the broker at {at} cannot be read: {describe(error)}; is the system running (`just up`)?"
        ) from error


@contextlib.asynccontextmanager
async def _ended_when(lost: asyncio.Event) -> AsyncIterator[None]:
    """Run the block, and end it with ConnectionLost once the connection is lost."""

    async def watch() -> None:
        await lost.wait()
        limit.reschedule(asyncio.get_running_loop().time())

    watching: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(None) as limit:
            watching = asyncio.create_task(watch())
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError:
        if limit.expired():
            raise ConnectionLost("it closed the connection, or has not answered for some seconds") from None
        raise


async def read(
    stream: Stream, subjects: Collection[str] = (), *, first: int = 1, last: int | None = None, follow: bool = False
) -> AsyncIterator[Read]:
    """Yield the messages of these subjects (none: all) one by one, from sequence `first` through `last`.

    See `chunks` for the rest, errors included.
    """
    async with aclosing(chunks(stream, subjects, first=first, last=last, follow=follow)) as found:
        async for chunk in found:
            for message in chunk:
                yield message


async def chunks(
    stream: Stream,
    subjects: Collection[str] = (),
    *,
    first: int | datetime = 1,
    last: int | None = None,
    follow: bool = False,
    after: Mapping[str, int] | None = None,
    ends: Mapping[str, int] | None = None,
) -> AsyncGenerator[list[Read], None]:
    """Yield the messages of these subjects (none: all) from sequence or time `first` through sequence `last`.

    They come in lists, each in stream order and maybe empty. `after` and `ends` bound single generations, by the name
    of a generation's stream: only messages with sequences above that in `after` (no effect if `first` is a time), up to
    and including that in `ends`. `last` None: reading ends at the end that the stream has when reading begins. With
    `follow`, which is only for EVENTS, it does not end; `last`, `after` and `ends` do not bound the newest generation.
    At most one and a half batches of BATCH are on their way; the rest waits in the broker, so a reader may be as slow
    as it likes. Raises ConsumerFailed, ArchiveDamaged, the client's errors.
    """
    archived: Sequence[GenerationManifest] = ()
    if stream.name != EVENTS:
        infos = [await stream.js.stream_info(stream.name)]
    else:
        infos = await kept_generations(stream)
        archived = archived_before(stream, infos)
    after, ends = after or {}, ends or {}
    generations: list[GenerationManifest | _Extent] = [*archived, *map(_Extent.of, infos[:-1] if follow else infos)]
    for one in generations:
        place = _place(stream, one, first, last, (after.get(one.stream, 0), ends.get(one.stream)))
        if place is None:
            continue
        of_one = (
            _of_archive(place, one, subjects)
            if isinstance(one, GenerationManifest)
            else _of_generation(place, subjects)
        )
        async with aclosing(of_one) as found:
            async for chunk in found:
                yield chunk
    if follow:
        newest = number_of(str(infos[-1].config.name)) or 0

        def read_on(number: int) -> AsyncGenerator[list[Read], None]:
            begin = first if number == newest else 1
            return _of_one(stream._replace(name=stream_name(number)), subjects, begin, 0, follow=True)

        async with aclosing(follow_on(stream.nc, newest, read_on)) as found:
            async for chunk in found:
                yield chunk


def archived_before(stream: Stream, kept: Sequence[StreamInfo]) -> Sequence[GenerationManifest]:
    """Return the manifests of the archived generations older than all in `kept`, which `kept_generations` returned.

    If `kept` is empty, those of all archived generations. Raises ArchiveDamaged.
    """
    first = number_of(str(kept[0].config.name)) if kept else None
    return [one for one in stream.archived if first is None or one.number < first]


class _Extent(NamedTuple):
    """The name of a generation's stream, how many messages it has, and their first and last sequence."""

    stream: str
    messages: int
    first_sequence: int
    last_sequence: int

    @classmethod
    def of(cls, info: StreamInfo) -> "_Extent":
        state = info.state
        return cls(str(info.config.name), state.messages, state.first_seq, state.last_seq)


def _place(
    stream: Stream,
    of: _Extent | GenerationManifest,
    first: int | datetime,
    last: int | None,
    ended: tuple[int, int | None],
) -> SequenceRange | None:
    """Return which part of the generation `of` is to be read; None: nothing.

    It begins at the sequence or time `first`, and after the sequence `ended[0]` unless `first` is a time. It ends at
    the lowest of `last`, `ended[1]` (None: no bound) and the generation's last sequence.
    """
    after, end = ended
    until = min(bound for bound in (of.last_sequence, last, end) if bound is not None)
    begin = max(first, after + 1) if isinstance(first, int) else first
    nothing = not of.messages or of.first_sequence > until or (isinstance(begin, int) and begin > until)
    return None if nothing else SequenceRange(stream._replace(name=of.stream), begin, until)


async def _of_generation(place: SequenceRange, subjects: Collection[str]) -> AsyncGenerator[list[Read], None]:
    """Yield the messages of a part of one generation; the rest from the archive if the stream is deleted meanwhile."""
    rest = place
    try:
        async with aclosing(_of_one(place.stream, subjects, place.first, place.until)) as found:
            async for chunk in found:
                yield chunk
                rest = rest._replace(first=chunk[-1].sequence + 1) if chunk else rest
    except (NotFoundError, ConsumerGone):
        if place.stream.archive is not None:
            await asyncio.to_thread(place.stream.archive.look)
        archived = {one.stream: one for one in place.stream.archived}
        if place.stream.name not in archived:
            raise
        async with aclosing(_of_archive(rest, archived[place.stream.name], subjects)) as found:
            async for chunk in found:
                yield chunk


async def _of_archive(
    place: SequenceRange, manifest: GenerationManifest, subjects: Collection[str]
) -> AsyncGenerator[list[Read], None]:
    """Yield the messages of this part of one archived generation, in the lists in which the archive reads them.

    Yields nothing if the Stream has no archive.
    """
    if place.stream.archive is None:
        return
    first, since_ns = 0, 0
    if isinstance(place.first, datetime):
        since_ns = 1_000 * microseconds(place.first)
    else:
        first = place.first
    found = place.stream.archive.read(manifest, subjects, first, place.until, since_ns)
    while (messages := await asyncio.to_thread(next, found, None)) is not None:
        if messages:
            yield [of_message(one) for one in messages]


def of_message(message: ArchivedMessage) -> Read:
    """Convert a message from the form in which the archive keeps it to that of one read from a stream."""
    sequence, subject, body, head, stored_ns = message
    return Read(sequence, subject, header(head, _MSG_ID), body, head, stored_ns)


def of_generation(stream: Stream, name: str) -> AsyncGenerator[list[Read], None]:
    """Yield the messages of this one stream, which is sealed, as `chunks` does."""
    return _of_one(stream._replace(name=name), (), 1, LARGEST)


async def _of_one(
    stream: Stream, subjects: Collection[str], first: int | datetime, until: int, *, follow: bool = False
) -> AsyncGenerator[list[Read], None]:
    """Yield the messages of the one stream `stream.name` as `_chunks` does.

    If the broker removes the consumer because the reader was slow, continue with a new one.
    """
    while True:
        taken: int | None = None
        try:
            async with aclosing(_chunks(stream, subjects, first, until, follow=follow)) as found:
                async for chunk in found:
                    yield chunk
                    taken = chunk[-1].sequence if chunk else taken
            return
        except ConsumerGone:  # the server removed it, for nothing was pulled for GONE_AFTER_S
            if taken is None:  # not because the reader was slow: a new consumer would be gone as well
                raise
            first = taken + 1


async def _chunks(
    stream: Stream, subjects: Collection[str], first: int | datetime, until: int, *, follow: bool
) -> AsyncGenerator[list[Read], None]:
    """Yield the messages of the one stream `stream.name` from `first` on, by one consumer, which is deleted in the end.

    Without `follow` it ends at sequence `until` or at the end that the stream has now, whichever comes first. With
    `follow` it does not end, and `until` has no effect. Raises ConsumerGone if the broker removed the consumer, and the
    errors that `chunks` raises.
    """
    by_time = isinstance(first, datetime)
    consumer = await stream.js.add_consumer(
        stream.name,
        ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_TIME if by_time else DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=None if isinstance(first, datetime) else first,
            opt_start_time=first if isinstance(first, datetime) else None,
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            inactive_threshold=GONE_AFTER_S,
            filter_subjects=sorted(subjects),
        ),
    )
    reader = _Reader(stream, consumer.name, consumer.num_pending or 0)
    try:
        await reader.pull.begin()
        while follow or reader.waiting:
            chunk = await reader.take()
            if not follow and chunk and chunk[-1].sequence > until:
                yield [message for message in chunk if message.sequence <= until]
                return
            if chunk:
                yield chunk
    finally:
        with contextlib.suppress(NatsError):
            await reader.pull.end()
            await stream.js.delete_consumer(stream.name, consumer.name)


class _Reader:
    """Pulls the messages of one consumer, and holds those that arrived until `take` hands them out."""

    def __init__(self, stream: Stream, consumer: str, waiting: int) -> None:
        self.waiting = waiting
        """How many messages the consumer had at its start, less those taken: with `follow` it becomes negative."""
        self.pull = Pull(stream.nc, stream.name, consumer, BATCH, deliver=self._on_message, failed=self._failed)
        self._come: list[Read] = []
        self._error: ConsumerFailed | None = None

    async def take(self) -> list[Read]:
        """Hand out all messages that have arrived, each once; if there are none, first wait until the broker sends.

        If few are on their way, ask the broker for more. The list is empty if the broker only sent a sign of life.
        Raises ConsumerFailed if the broker was silent or ended the pull; the client's errors.
        """
        await self.pull.request()
        if not self._come and self._error is None:
            self.pull.wake.clear()
            await self.pull.sign_of_life()
        if self._error is not None:
            raise self._error
        chunk, self._come = self._come, []
        self.waiting -= len(chunk)
        return chunk

    def _on_message(self, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        sequence, _, stored_ns = numbers(reply)
        name = subject.decode(errors="backslashreplace")  # anybody may have chosen it
        self._come.append(Read(sequence, name, header(head, _MSG_ID), body, head, stored_ns))
        self.pull.wake.set()

    def _failed(self, error: ConsumerFailed) -> None:
        self._error = error
        self.pull.wake.set()
