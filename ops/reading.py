"""Reading the stream EVENTS from outside: what stands under some subjects, in stream order, acknowledging nothing."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Final, NamedTuple

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from contracts.wire import MSG_ID
from infra.broker.client import BrokerClient, header, status
from infra.broker.connection import CONNECT_TIMEOUT_S, connect, describe
from infra.broker.streams import EVENTS
from infra.settings import Settings, load
from ops.errors import Unreachable

BATCH: Final = 2_000  # messages a pull
PULL_EXPIRES_S: Final = 5.0
SILENCE_S: Final = 3 * PULL_EXPIRES_S
GONE_AFTER_S: Final = 30.0  # a consumer whose reader is gone is removed by the server

_MSG_ID: Final = MSG_ID.encode()


class Read(NamedTuple):
    """One message of the stream, stored there `at` (nanoseconds since 1970); `head`: its headers as they travel."""

    sequence: int
    subject: str
    fact_id: str
    body: bytes
    head: bytes
    at_ns: int


class _ConsumerGone(NatsError):
    """The server has removed the consumer: nobody had pulled for GONE_AFTER_S."""


class Stream(NamedTuple):
    """A connection to the broker that has it."""

    nc: BrokerClient
    js: JetStreamContext
    name: str = EVENTS


@contextlib.asynccontextmanager
async def stream(env: Mapping[str, str]) -> AsyncIterator[Stream]:
    """A connection to the broker that `env` names. Raises Unreachable, SettingsError."""
    settings = load(Settings, "nats", 4_222, env)
    try:
        async with connect(settings, "orders", asyncio.Event()) as (nc, _):
            yield Stream(nc, nc.jetstream(timeout=CONNECT_TIMEOUT_S))
    except (OSError, NatsError) as error:
        if isinstance(error, NotFoundError):
            raise Unreachable(f"the broker has no stream {EVENTS} yet; has a service run with it?") from error
        at = settings.broker_urls[0].rpartition("@")[2]  # without the password
        raise Unreachable(
            f"the broker at {at} cannot be read: {describe(error)}; is the system running (`just up`)?"
        ) from error


async def read(
    stream: Stream, subjects: Collection[str] = (), *, first: int = 1, last: int | None = None, follow: bool = False
) -> AsyncIterator[Read]:
    """What stands under these subjects (none: all), message by message; see `chunks`."""
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
) -> AsyncGenerator[list[Read], None]:
    """What stands under these subjects (none: all) from sequence or time `first` up to and with sequence `last`.

    Without `last` up to what is the stream's end now; with `follow` for ever. No more than two pulls are under way, so
    a slow reader keeps the rest in the broker, and may take as long as it likes. Raises the client's errors.
    """
    until = (await stream.js.stream_info(stream.name)).state.last_seq if last is None else last
    while True:
        taken: int | None = None
        try:
            async with aclosing(_chunks(stream, subjects, first, until, follow=follow)) as found:
                async for chunk in found:
                    yield chunk
                    taken = chunk[-1].sequence if chunk else taken
            return
        except _ConsumerGone:
            if taken is None:  # not the reader's slowness: a new consumer would be gone as well
                raise
            first = taken + 1


async def _chunks(
    stream: Stream, subjects: Collection[str], first: int | datetime, until: int, *, follow: bool
) -> AsyncGenerator[list[Read], None]:
    """By one consumer. Raises _ConsumerGone, the client's other errors."""
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
    pull = _Pull(stream, consumer.name, consumer.num_pending or 0)
    try:
        await pull.begin()
        while follow or pull.waiting:
            chunk = await pull.take()
            if not follow and chunk and chunk[-1].sequence > until:
                yield [message for message in chunk if message.sequence <= until]
                return
            if chunk:
                yield chunk
    finally:
        with contextlib.suppress(NatsError):
            await pull.end()
            await stream.js.delete_consumer(stream.name, consumer.name)


class _Pull:
    """Pull requests that overlap, and the messages that have come and are not taken yet."""

    def __init__(self, stream: Stream, consumer: str, waiting: int) -> None:
        self.waiting = waiting
        """Messages that the consumer has, and that were not taken yet."""
        self._nc = stream.nc
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream.name}.{consumer}"
        self._inbox = stream.nc.new_inbox()
        self._asked_for = 0
        self._come: list[Read] = []
        self._error: NatsError | None = None
        self._sign = asyncio.Event()

    async def begin(self) -> None:
        self._subscription = await self._nc.listen(self._inbox, self._on_message)

    async def end(self) -> None:
        await self._subscription.unsubscribe()

    async def take(self) -> list[Read]:
        """What has come; maybe nothing yet."""
        if self._asked_for <= BATCH // 2:
            self._asked_for += BATCH
            request = b'{"batch":%d,"expires":%d}' % (BATCH, int(PULL_EXPIRES_S * 1e9))
            await self._nc.publish(self._next, request, self._inbox)
        if not self._come and self._error is None:
            self._sign.clear()
            try:
                async with asyncio.timeout(SILENCE_S):
                    await self._sign.wait()
            except TimeoutError:
                raise NatsError(f"the broker has been silent for {SILENCE_S:.0f} s") from None
        if self._error is not None:
            raise self._error
        chunk, self._come = self._come, []
        self.waiting -= len(chunk)
        return chunk

    def _on_message(self, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        self._sign.set()
        if not reply:
            self._on_status(head)
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<delivery>.<time>.<pending>; or with domain and account
        tokens = reply.split(b".")
        sequence, _, at_ns = tokens[5:8] if len(tokens) == 9 else tokens[7:10]
        self._asked_for -= 1
        self._come.append(Read(int(sequence), subject.decode(), header(head, _MSG_ID), body, head, int(at_ns)))

    def _on_status(self, head: bytes) -> None:
        code, description = status(head)
        if code in ("404", "408"):  # nothing there, or this pull is over
            self._asked_for -= int(header(head, b"Nats-Pending-Messages") or BATCH)
        elif code == "503" or description == "Consumer Deleted":
            self._error = _ConsumerGone(f"the broker has no such consumer any more: {code} {description}".rstrip())
        elif code != "100":  # heartbeat
            self._error = NatsError(f"the broker ended the pull: {code} {description}")
