"""The relay copies a service's log into the stream, in log order, as often as it takes.

Where to continue is asked of the stream itself, so no cursor can lie, and a broker that lost its tail or its whole disk
is written again. What a look at the log finds is sent as a batch, the next without waiting for it; but position p goes
only when every position up to p - WINDOW is acknowledged, so behind a lost connection there can be no hole further back
than that.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION, fact_id, subject
from infra.broker.client import VERSION_LINE, BrokerClient, Outgoing
from infra.broker.errors import LogLost, RelayFailed
from infra.broker.fast_ingest import FastIngest, PublishRefused
from infra.broker.streams import EVENTS
from infra.store.event_store import EventStore
from infra.store.records import Notification

logger = structlog.get_logger()

WINDOW: Final = 512  # log positions
ACK_TIMEOUT_S: Final = 5.0
STALLED_AFTER_S: Final = 1.0
READ_BATCH: Final = 256  # records


class Window:
    """Which positions are in flight. Positions grow and may have gaps."""

    def __init__(self, acked: int, span: int = WINDOW) -> None:
        self.acked = acked
        """Every position sent up to here is acknowledged."""
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
    """One session's relay, on a fresh connection: one that reconnects by itself flushes its old buffer past a hole."""

    def __init__(self, service: str, store: EventStore, nc: BrokerClient, js: JetStreamContext) -> None:
        self._service = service
        self._store = store
        self._nc = nc
        self._js = js
        self._window = Window(0)
        self._inbox = nc.new_inbox()
        self._ingest = FastIngest(self._inbox)
        self._grown = False
        self._wake = asyncio.Event()
        self._error: RelayFailed | None = None
        self._loop = asyncio.get_running_loop()
        self._last_ack = self._loop.time()
        self.caught_up = asyncio.Event()
        """Set while the stream has all of the log."""
        self.has_caught_up = False
        """Whether it had, at least once."""

    @property
    def stalled(self) -> bool:
        """Whether the broker has owed us an acknowledgement for longer than it should."""
        return not self._window.empty and self._loop.time() - self._last_ack > STALLED_AFTER_S

    def log_has_grown(self) -> None:
        self.caught_up.clear()
        self._grown = True
        self._wake.set()

    @property
    def acked(self) -> int:
        """Every position of the log up to here is in the stream."""
        return self._window.acked

    async def find_resume_position(self, acked: int = 0) -> None:
        """Ask the stream where to continue, before anything is heard or said.

        `acked` is how far the session before this one got; a stream that ends there has no hole before it. Raises
        LogLost if the stream has a fact of this service that its log has not; StoreError; the client's errors.
        """
        try:
            last = await self._js.get_last_msg(EVENTS, f"{self._service}.>", direct=True)
        except NotFoundError:
            return
        said, at = (last.headers or {}).get(MSG_ID), (last.headers or {}).get(POSITION, "")
        if not at.isdecimal():
            logger.warning("the last message on our subjects is not ours; sending the whole log", subject=last.subject)
            return
        position = int(at)
        logged = await self._store.select_notifications(position - 1, 1)
        if [(record.position, fact_id(record[1], record[2])) for record in logged] != [(position, said)]:
            raise LogLost(
                f"the stream has {said} at position {position} of {self._service}_svc's log, the log itself has not: "
                "this store is not the one that said it, or lost its end. Put the right one back; or stop the service "
                f"and rebuild it from the stream (just rebuild {self._service})."
            )
        if not await self._begins_with_the_log():
            logger.warning("the stream does not begin with this log: it is another one; sending the whole log")
            return
        # What was in flight when the last session ended may have left a hole this far back, but no further.
        self._window = Window(position if position == acked else max(0, position - WINDOW))

    async def _begins_with_the_log(self) -> bool:
        """Whether the log's first fact stands in the stream: one that was made anew may have later ones alone."""
        (first,) = await self._store.select_notifications(0, 1)
        try:
            found = await self._js.get_msg(EVENTS, 1, subject(first.topic, first.state), direct=True, next=True)
        except NotFoundError:
            return False
        return (found.headers or {}).get(MSG_ID) == fact_id(first.originator_id, first.originator_version)

    async def run(self) -> None:
        """Mirror the log until something fails. Raises RelayFailed, StoreError or the client's errors."""
        await self._nc.listen(f"{self._inbox}.>", self._on_ack)
        position = self._window.acked
        while True:
            self._grown = False
            unsent = read = await self._store.select_notifications(position, READ_BATCH)
            while unsent:
                if self._window.empty:
                    self._last_ack = self._loop.time()  # nothing has been owed since
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
        """For an acknowledgement, or for the log to grow."""
        self._wake.clear()
        if self._error is not None:
            raise self._error
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if self._window.empty else ACK_TIMEOUT_S):
                await self._wake.wait()
        if not self._window.empty and self._loop.time() - self._last_ack > ACK_TIMEOUT_S:
            raise RelayFailed(f"no acknowledgement from the broker for {ACK_TIMEOUT_S} s; its own log may say why")

    def _admitted(self, unsent: list[Notification]) -> list[Notification]:
        """The first of these, as many as may be sent now; they count as sent."""
        for n, stored in enumerate(unsent):
            if not self._window.admits(stored.position):
                return unsent[:n]
            self._window.sent(stored.position)
        return unsent

    async def _send(self, batch: Sequence[Notification]) -> None:
        replies = self._ingest.replies([stored.position for stored in batch])
        await self._nc.send_all(_message(stored, reply) for stored, reply in zip(batch, replies, strict=True))

    def _on_ack(self, subject: bytes, _: bytes, body: bytes, head: bytes) -> None:
        if self._error is not None:
            return  # behind what was refused nothing counts: `acked` must not pass it
        try:
            stored = self._ingest.stored(subject, body, head)
        except PublishRefused as refused:
            self._error = RelayFailed(f"the broker refused a fact: {refused}")
            self._wake.set()
            return
        if stored:  # a batch that has begun is no acknowledgement yet
            for position in stored:
                self._window.ack(position)
            self._last_ack = self._loop.time()
            self._wake.set()


def _message(stored: Notification, reply: str) -> Outgoing:
    position, stream, version, name, body = stored
    head = (
        f"{VERSION_LINE}\r\n{MSG_ID}: {fact_id(stream, version)}\r\n"
        f"{STREAM}: {stream}\r\n{VERSION}: {version}\r\n{POSITION}: {position}\r\n\r\n"
    )
    return subject(name, body), body, reply, head
