"""The relay copies a service's log into the stream EVENTS, in log order, and repeats what may have been lost.

It finds in the stream itself what the stream has (see `resume`). So no stored cursor can be wrong, a broker that was
truncated or lost its whole disk gets the facts again, and nothing that was found there is sent a second time. Each read
of the log is sent as one batch, without waiting for the batch before. But position p is sent only when every position
up to p - WINDOW is acknowledged. A lost connection may leave a hole: a fact that is missing, though a later one is
stored. No hole lies further back than WINDOW positions.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

import structlog

from contracts.wire import HEADER_BYTES, MSG_ID, POSITION, STREAM, VERSION, fact_id, header_value, subject
from infra.aio import Alarm
from infra.broker.client import VERSION_LINE, BrokerClient, Outgoing
from infra.broker.errors import FactTooLarge, RelayFailed
from infra.broker.fast_ingest import FastIngest, PublishRefused, TakenForRepeat
from infra.broker.holes import records_of, runs
from infra.broker.leader import Leader
from infra.broker.resume import ResumePosition, Stored, check_repeat, find_resume_position, not_stored
from infra.broker.window import WINDOW, Window
from infra.store.event_store import EventStore
from infra.store.records import Notification

logger = structlog.get_logger()

READ_BATCH: Final = 256  # records

ACK_TIMEOUT_S: Final = 5.0
"""Without an acknowledgement for this long, while facts are in flight, the relay fails, and the session ends."""

STALLED_AFTER_S: Final = 1.0
"""Without an acknowledgement for this long, while facts are in flight, the service is not ready."""

UNACKNOWLEDGED: Final = (
    "The broker's log says why; if its disk was full, make room and restart the broker: it writes to the stream again "
    "only after that"
)
"""What an operator has to do if the broker acknowledges nothing."""


class Relay:
    """Publishes a service's log into EVENTS during one session: first `find_resume_position`, then `run`.

    `nc` must be a fresh connection that never reconnects: a reconnected client would send its old buffer after facts
    that were lost.
    """

    def __init__(
        self,
        service: str,
        store: EventStore,
        nc: BrokerClient,
        *,
        ack_timeout_s: float = ACK_TIMEOUT_S,
        stalled_after_s: float = STALLED_AFTER_S,
        max_bytes: int = sys.maxsize,
        window: int = WINDOW,
        read_batch: int = READ_BATCH,
    ) -> None:
        """`max_bytes` is the largest message, headers included, that the broker takes.

        `window` is the span of log positions in flight; `read_batch` is the most records of one read of the log.
        """
        self._service = service
        self._store = store
        self._nc = nc
        self._ack_timeout_s = ack_timeout_s
        self._stalled_after_s = stalled_after_s
        self._max_body = max_bytes - HEADER_BYTES
        self._span = window
        self._read_batch = read_batch
        self._window = Window(0, window)
        self._resumed = ResumePosition(0, {}, ())
        self._stored: Stored = {}
        """Facts that were found in the stream: these are not sent."""
        self._inbox = nc.new_inbox()
        self._ingest = FastIngest(self._inbox)
        self._grown = False
        self._wake = asyncio.Event()
        self._overdue = Alarm(self._wake)
        self._error: RelayFailed | None = None
        self._leader: Leader | None = None
        self._repeats: list[TakenForRepeat] = []
        self._loop = asyncio.get_running_loop()
        self._last_ack = self._loop.time()
        self.caught_up = asyncio.Event()
        """Set while the stream has the whole log as far as the relay knows; `log_has_grown` clears it."""
        self.has_caught_up = False
        """Whether `caught_up` was set at least once."""

    @property
    def stalled(self) -> bool:
        """Whether an acknowledgement is overdue: none came for `stalled_after_s` while facts were in flight."""
        return not self._window.empty and self._loop.time() - self._last_ack > self._stalled_after_s

    def log_has_grown(self) -> None:
        """Wake `run` to look for new records in the store. Harmless if there are none."""
        self.caught_up.clear()
        self._grown = True
        self._wake.set()

    @property
    def acked(self) -> int:
        """The position up to which, included, every fact of the log is known to be in EVENTS; later ones may be, too.

        0 if none is known to be there.
        """
        return self._window.acked

    async def find_resume_position(self, leader: Leader) -> None:
        """Find in the stream what `run` has to send. Call it before the session consumes or publishes anything.

        Raises LogLost if the stream has a fact of this service that its log lacks; StoreError; LeaderUnavailable; the
        client's errors.
        """
        resumed = await find_resume_position(self._service, self._store, leader, self._span)
        self._leader = leader
        self._ingest.last_sequence = leader.last_sequence
        self._resumed = resumed
        self._window = Window(resumed.lost[0] - 1 if resumed.lost else resumed.acked, self._span)
        self._stored = resumed.stored

    async def run(self) -> None:
        """Publish the log after the resume position, then new records each time `log_has_grown` is called.

        Never returns. Raises RelayFailed, FactTooLarge, StoreError, or the client's errors.
        """
        await self._nc.listen(f"{self._inbox}.>", self._on_ack)
        await self._publish_lost()
        position = self._window.acked
        while True:
            self._grown = False
            read = await self._store.select_notifications(position, self._read_batch)
            await self._publish(not_stored(read, self._stored))
            if read:
                position = read[-1].position
                if self._stored and max(self._stored) <= position:
                    self._stored = {}
            while not read and not self._grown:
                if self._window.empty:
                    self.caught_up.set()
                    self.has_caught_up = True
                await self._wait()

    async def _publish_lost(self) -> None:
        """Publish what holes of the stream swallowed, and wait until the stream has it again."""
        for first, last in runs(self._resumed.lost):
            await self._publish([record async for record in records_of(self._store, first, last)])
        while not self._window.empty:
            await self._wait()
        self._window = Window(self._resumed.acked, self._span)

    async def _publish(self, unsent: list[Notification]) -> None:
        """Send these records, as the window admits them."""
        while unsent:
            if self._window.empty:
                self._last_ack = self._loop.time()  # no acknowledgement was due until now
            batch = self._admitted(unsent)
            if batch:
                await self._send(batch)
                unsent = unsent[len(batch) :]
            elif self._window.empty:
                raise FactTooLarge(self._service, unsent[0], self._max_body)
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Wait for an acknowledgement, or for the log to grow; it may also return without either.

        Raises RelayFailed if the broker refused a fact, took it for a repeat of a message that it is not, or
        acknowledged none for `ack_timeout_s` while facts were in flight.
        """
        self._wake.clear()
        if self._error is not None:
            raise self._error
        if self._repeats and self._leader is not None:
            repeat = self._repeats.pop()
            await check_repeat(self._service, self._store, self._leader, repeat.position, repeat.sequence)
            self._window.ack(repeat.position)
            self._last_ack = self._loop.time()
            return
        if not self._window.empty:
            self._overdue.at(self._last_ack + self._ack_timeout_s)
        await self._wake.wait()
        if not self._window.empty and self._loop.time() >= self._last_ack + self._ack_timeout_s:
            raise RelayFailed(f"no acknowledgement from the broker for {self._ack_timeout_s} s. {UNACKNOWLEDGED}")

    def _admitted(self, unsent: list[Notification]) -> list[Notification]:
        """Take as many of the first unsent records as window and broker take, maybe none; mark and return them."""
        for n, stored in enumerate(unsent):
            if not self._window.admits(stored.position) or len(stored.state) > self._max_body:
                return unsent[:n]
            self._window.sent(stored.position)
        return unsent

    async def _send(self, batch: Sequence[Notification]) -> None:
        replies = self._ingest.replies([stored.position for stored in batch])
        await self._nc.send_all(_message(stored, reply) for stored, reply in zip(batch, replies, strict=True))

    def _on_ack(self, subject: bytes, _: bytes, body: bytes, raw_headers: bytes) -> None:
        if self._error is not None:
            return  # `acked` must not pass a fact that was refused
        try:
            stored = self._ingest.stored(subject, body, raw_headers)
        except TakenForRepeat as repeat:
            self._repeats.append(repeat)
            self._wake.set()
            return
        except PublishRefused as refused:
            self._error = RelayFailed(f"the broker refused a fact: {refused}")
            self._wake.set()
            return
        if stored:  # the answer that a batch has begun acknowledges nothing
            for position in stored:
                self._window.ack(position)
            self._last_ack = self._loop.time()
            self._wake.set()


def _message(stored: Notification, reply: str) -> Outgoing:
    position, stream, version, name, body = stored
    named = header_value(stream)
    raw_headers = (
        f"{VERSION_LINE}\r\n{MSG_ID}: {fact_id(named, version)}\r\n"
        f"{STREAM}: {named}\r\n{VERSION}: {version}\r\n{POSITION}: {position}\r\n\r\n"
    )
    return subject(name, body, stream), body, reply, raw_headers
