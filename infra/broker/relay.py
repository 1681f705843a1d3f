"""The relay copies a service's log into the stream EVENTS, in log order, and repeats what may have been lost.

It finds its resume position in the stream itself. So no stored cursor can be wrong, and a broker that was truncated or
lost its whole disk gets the facts again. Each read of the log is sent as one batch, without waiting for the batch
before. But position p is sent only when every position up to p - WINDOW is acknowledged. A lost connection may leave a
hole: a fact that is missing, though a later one is stored. No hole lies further back than WINDOW positions.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION, fact_id, subject
from infra.aio import wait
from infra.broker.client import VERSION_LINE, BrokerClient, Outgoing
from infra.broker.errors import LogLost, RelayFailed
from infra.broker.fast_ingest import FastIngest, PublishRefused
from infra.broker.streams import EVENTS
from infra.store.event_store import EventStore
from infra.store.records import Notification

logger = structlog.get_logger()

WINDOW: Final = 512  # log positions
READ_BATCH: Final = 256  # records

ACK_TIMEOUT_S: Final = 5.0
"""Without an acknowledgement for this long, while facts are in flight, the relay fails, and the session ends."""

STALLED_AFTER_S: Final = 1.0
"""Without an acknowledgement for this long, while facts are in flight, the service is not ready."""


class Window:
    """Tracks the log positions that were sent and are not acknowledged yet, and bounds their span.

    `sent` adds positions in rising order; they may have gaps. `ack` may take them in any order. A position may be sent
    only if `admits` allows it.
    """

    def __init__(self, acked: int, span: int = WINDOW) -> None:
        self.acked = acked
        """Every position up to this one, included, is acknowledged. At first, sending begins after it."""
        self._span = span
        self._in_flight: deque[int] = deque()
        self._early: set[int] = set()

    def admits(self, position: int) -> bool:
        return not self._in_flight or position - self._span <= self.acked

    def sent(self, position: int) -> None:
        self._in_flight.append(position)

    def ack(self, position: int) -> None:
        self._early.add(position)
        while self._in_flight and self._in_flight[0] in self._early:
            self.acked = self._in_flight.popleft()
            self._early.remove(self.acked)

    @property
    def empty(self) -> bool:
        return not self._in_flight


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
        js: JetStreamContext,
        *,
        ack_timeout_s: float = ACK_TIMEOUT_S,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        self._service = service
        self._store = store
        self._nc = nc
        self._js = js
        self._ack_timeout_s = ack_timeout_s
        self._stalled_after_s = stalled_after_s
        self._window = Window(0)
        self._inbox = nc.new_inbox()
        self._ingest = FastIngest(self._inbox)
        self._grown = False
        self._wake = asyncio.Event()
        self._error: RelayFailed | None = None
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

    async def find_resume_position(self, acked: int = 0) -> None:
        """Find in the stream where `run` has to begin. Call it before the session consumes or publishes anything.

        `acked` is the value of the property `acked` in the session before; 0 if there was none. If the service's last
        fact in the stream has this position, there is no hole. Otherwise up to WINDOW positions are sent again. Raises
        LogLost if the stream has a fact of this service that its log lacks; StoreError; the client's errors.
        """
        try:
            last = await self._js.get_last_msg(EVENTS, f"{self._service}.>", direct=True)
        except NotFoundError:
            await self._tell_of_lost_store("the stream has no fact of this service")
            return
        published, at = (last.headers or {}).get(MSG_ID), (last.headers or {}).get(POSITION, "")
        if not at.isdecimal():
            logger.warning(
                "another publisher wrote the last message on this service's subjects; publishing the whole log",
                subject=last.subject,
            )
            return
        position = int(at)
        logged = await self._store.select_notifications(position - 1, 1)
        if [(record[0], fact_id(record[1], record[2]), record[4]) for record in logged] != [
            (position, published, last.data)
        ]:
            raise LogLost(
                f"the stream has {published} at position {position} of {self._service}_svc's log, but the log has "
                "not: this store is another one, or lost its newest records. Put the right store back; or stop the "
                f"service and rebuild the store from the stream (just rebuild {self._service})."
            )
        if not await self._begins_with_the_log():
            await self._tell_of_lost_store("the stream lacks the first fact of this log")
            return
        # The facts in flight when the last session ended may have left a hole this far back, but no further.
        self._window = Window(position if position == acked else max(0, position - WINDOW))

    async def _tell_of_lost_store(self, sign: str) -> None:
        if facts := await self._store.max_notification_id():
            logger.warning(
                f"{sign}: the broker's store was lost or is new; publishing the whole log again", facts=facts
            )

    async def _begins_with_the_log(self) -> bool:
        """Whether the stream has the log's first fact; the log must not be empty.

        A stream that was made anew may have only later facts. Raises StoreError, the client's errors.
        """
        (first,) = await self._store.select_notifications(0, 1)
        try:
            found = await self._js.get_msg(EVENTS, 1, subject(first.topic, first.state), direct=True, next=True)
        except NotFoundError:
            return False
        return (found.headers or {}).get(MSG_ID) == fact_id(first.originator_id, first.originator_version)

    async def run(self) -> None:
        """Publish the log after the resume position, then new records each time `log_has_grown` is called.

        Never returns. Raises RelayFailed, StoreError, or the client's errors.
        """
        await self._nc.listen(f"{self._inbox}.>", self._on_ack)
        position = self._window.acked
        while True:
            self._grown = False
            unsent = read = await self._store.select_notifications(position, READ_BATCH)
            while unsent:
                if self._window.empty:
                    self._last_ack = self._loop.time()  # no acknowledgement was due until now
                batch = self._admitted(unsent)
                if batch:
                    await self._send(batch)
                    position = batch[-1].position
                    unsent = unsent[len(batch) :]
                else:
                    await self._wait()
            while not read and not self._grown:
                if self._window.empty:
                    self.caught_up.set()
                    self.has_caught_up = True
                await self._wait()

    async def _wait(self) -> None:
        """Wait for an acknowledgement, or for the log to grow.

        Raises RelayFailed if the broker refused a fact, or an acknowledgement is overdue.
        """
        self._wake.clear()
        if self._error is not None:
            raise self._error
        await wait(self._wake, None if self._window.empty else self._ack_timeout_s)
        if not self._window.empty and self._loop.time() - self._last_ack > self._ack_timeout_s:
            raise RelayFailed(f"no acknowledgement from the broker for {self._ack_timeout_s} s; check the broker's log")

    def _admitted(self, unsent: list[Notification]) -> list[Notification]:
        """Take as many of the first unsent records as the window admits, maybe none; mark them as sent; return them."""
        for n, stored in enumerate(unsent):
            if not self._window.admits(stored.position):
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
    raw_headers = (
        f"{VERSION_LINE}\r\n{MSG_ID}: {fact_id(stream, version)}\r\n"
        f"{STREAM}: {stream}\r\n{VERSION}: {version}\r\n{POSITION}: {position}\r\n\r\n"
    )
    return subject(name, body), body, reply, raw_headers
