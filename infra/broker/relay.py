"""The relay copies a service's log into the newest generation of the stream, in log order, and repeats what was lost.

It finds in the stream itself what the stream has (see `resume`). So no stored cursor can be wrong, a broker that was
truncated or lost its whole disk gets again what no archive has, and nothing that was found there is sent a second time.
Each read of the log is sent with one write, if the window admits it, without waiting for the one before: position p is
sent only when every position up to p - WINDOW is stored. A lost connection may leave a hole: a fact that is missing,
though a later one is stored. No such hole lies further back than WINDOW positions. Before the relay publishes into a
new generation, it awaits all acknowledgements of the one before: so positions rise, but for what is repeated.
"""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final

import structlog

from contracts.wire import HEADER_BYTES
from infra.aio import Alarm
from infra.archive.manifest import ArchivedLog
from infra.broker.client import BrokerClient
from infra.broker.errors import FactTooLarge, RelayFailed
from infra.broker.fact_message import message_of
from infra.broker.fast_ingest import FastIngest, PublishRefused, TakenForRepeat
from infra.broker.gaps import Gap, Stored, not_stored
from infra.broker.leader import Leader
from infra.broker.numbering import EVENTS, prefix
from infra.broker.resume import NOT_ARCHIVED, check_repeat, find_resume_position
from infra.broker.troubles import UNACKNOWLEDGED
from infra.broker.window import WINDOW, Window
from infra.store.event_store import EventStore
from infra.store.records import Notification

logger = structlog.get_logger()

READ_BATCH: Final = 256  # records
ACK_TIMEOUT_S: Final = 5.0
"""Without an acknowledgement for this long, while facts are in flight, the relay fails, and the session ends."""
STALLED_AFTER_S: Final = 3.0
"""Without an acknowledgement for this long, while facts are in flight, the service is not ready. Clients usually wait
longer than that, so what is accepted in a shorter stall of the broker usually ends in time."""
HICCUP_S: Final = 0.1
"""The time without an acknowledgement after which the broker counts as stalled in `stalled_s`."""


class Relay:
    """Publishes a service's log during one session: first `find_resume_position`, then `run`.

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
        """`max_bytes`: the largest message, with headers, that the broker takes. `read_batch`: most records of a read.

        `window`: with facts in flight, no position more than so many above `acked` is sent.
        """
        self._service = service
        self._store = store
        self._nc = nc
        self._ack_timeout_s = ack_timeout_s
        self._stalled_after_s = stalled_after_s
        self._max_body = max_bytes - HEADER_BYTES
        self._span = window
        self._read_batch = read_batch
        self._main = self._window = Window(0, window)
        self._stored: Stored = {}
        """Facts that were found in the stream: these are not sent."""
        self._inbox = nc.new_inbox()
        self._ingest = FastIngest(self._inbox)
        self._grown = False
        self._wake = asyncio.Event()
        self._overdue = Alarm(self._wake)
        self._error: RelayFailed | None = None
        self._leader: Leader | None = None
        self._next: Leader | None = None
        """The generation into which the relay publishes once all that it has sent is acknowledged."""
        self._begin = ""
        self.gaps: Sequence[Gap] = ()
        """Positions up to `acked` that the stream lost, and that are not all published again yet."""
        self._repeats: list[TakenForRepeat] = []
        self._loop = asyncio.get_running_loop()
        self._last_ack = self._loop.time()
        self._stalled_s = 0.0
        self.caught_up = asyncio.Event()
        """Set while the stream has the whole log as far as the relay knows; `log_has_grown` clears it."""
        self.has_caught_up = False
        """Whether `caught_up` was set at least once."""

    @property
    def stalled(self) -> bool:
        """Whether facts are in flight now, and none was acknowledged for the last `stalled_after_s` seconds."""
        return self._without_ack_s > self._stalled_after_s

    @property
    def stalled_s(self) -> float:
        """Seconds in all without acknowledgements while facts were in flight, less the first HICCUP_S of each time."""
        return self._stalled_s + max(0.0, self._without_ack_s - HICCUP_S)

    @property
    def _without_ack_s(self) -> float:
        return 0.0 if self._window.empty else self._loop.time() - self._last_ack

    def log_has_grown(self) -> None:
        """Wake `run` to look for new records in the store. Harmless if there are none."""
        self.caught_up.clear()
        self._grown = True
        self._wake.set()

    @property
    def acked(self) -> int:
        """By the broker's answers, all up to this position is published, or archived, but for `gaps`; maybe more is."""
        return self._main.acked

    async def find_resume_position(self, leaders: Sequence[Leader], archived: ArchivedLog = NOT_ARCHIVED) -> None:
        """Find in the stream what `run` has to send. Call it before the session consumes or publishes anything.

        `leaders` are those of the generations that are not archived, the oldest first. `run` publishes nothing up
        to `archived.until`. Raises what `infra.broker.resume.find_resume_position` raises, such as LogLost.
        """
        resumed = await find_resume_position(self._service, self._store, leaders, self._span, archived)
        self._publish_into(leaders[-1])
        self._window = Window(resumed.acked, self._span)
        self._main, self._stored, self.gaps = self._window, resumed.stored, resumed.gaps

    def move_to(self, leader: Leader) -> None:
        """Let `run` publish into this new generation, once all that it sent to the one before is acknowledged."""
        self._next = leader

    def _publish_into(self, leader: Leader) -> None:
        self._leader, self._next = leader, None
        self._begin = prefix(leader.number)
        self._ingest.last_sequence = leader.last_sequence

    async def run(self) -> None:
        """Publish what the stream lacks of the log, then new records each time `log_has_grown` is called.

        Never returns. Raises RelayFailed, FactTooLarge, StoreError, LeaderUnavailable, or the client's errors.
        """
        await self._nc.listen(f"{self._inbox}.>", self._on_ack)
        await self._fill()
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

    async def _publish(self, unsent: list[Notification], resent: bool = False) -> None:
        """Send these records; await acknowledgements only at a full window, a new generation or a too large record."""
        while unsent:
            if self._window.empty:
                self._last_ack = self._loop.time()  # no acknowledgement was due until now
                if self._next is not None:
                    self._publish_into(self._next)
            batch = [] if self._next is not None else self._admitted(unsent)
            if batch:
                replies = self._ingest.replies([stored.position for stored in batch])
                await self._nc.send_all(map(message_of, batch, replies, repeat(self._begin), repeat(resent)))
                unsent = unsent[len(batch) :]
            elif self._window.empty:
                stream = EVENTS if self._leader is None else self._leader.name
                raise FactTooLarge(self._service, unsent[0], self._max_body, stream)
            else:
                await self._wait()

    async def _fill(self) -> None:
        """Publish the gaps again, before anything else. Raises the errors of `run`."""
        while self.gaps:
            (after, until), *others = self.gaps
            logger.warning("the stream lost facts; publishing them again", after=after, until=until)
            self._window, position = Window(after, self._span), after
            while position < until:
                read = await self._store.select_notifications(position, min(self._read_batch, until - position))
                await self._publish(read, resent=True)
                position = read[-1].position if read else until
                self.gaps = [Gap(self._window.acked, until), *others]
            while not self._window.empty:
                await self._wait()
            self.gaps = others
        self._window = self._main

    async def _wait(self) -> None:
        """Wait for an acknowledgement, or for the log to grow; it may also return without either.

        Raises RelayFailed if the broker refused a fact, took it for a repeat of a message that it is not, or
        acknowledged none for `ack_timeout_s` while facts were in flight; the errors of `check_repeat`.
        """
        self._wake.clear()
        if self._error is not None:
            raise self._error
        if self._repeats and self._leader is not None:
            again = self._repeats.pop()
            await check_repeat(self._service, self._store, self._leader, again.position, again.sequence)
            self._acknowledged([again.position])
            return
        if not self._window.empty:
            self._overdue.at(self._last_ack + self._ack_timeout_s)
        await self._wake.wait()
        if not self._window.empty and self._loop.time() >= self._last_ack + self._ack_timeout_s:
            raise RelayFailed(f"no acknowledgement from the broker for {self._ack_timeout_s} s. {UNACKNOWLEDGED}")

    def _admitted(self, unsent: list[Notification]) -> list[Notification]:
        """Return as many of the first records as window and broker take, maybe none; count them as sent from now on."""
        for n, stored in enumerate(unsent):
            if not self._window.admits(stored.position) or len(stored.state) > self._max_body:
                return unsent[:n]
            self._window.sent(stored.position)
        return unsent

    def _on_ack(self, subject: bytes, _: bytes, body: bytes, raw_headers: bytes) -> None:
        if self._error is not None:
            return  # `acked` must not pass a fact that was refused
        try:
            stored = self._ingest.stored(subject, body, raw_headers)
        except TakenForRepeat as again:
            self._repeats.append(again)
        except PublishRefused as refused:
            self._error = RelayFailed(f"the broker refused a fact: {refused}")
        else:
            if not stored:
                return  # the answer that a batch has begun acknowledges nothing
            self._acknowledged(stored)
        self._wake.set()

    def _acknowledged(self, positions: Iterable[int]) -> None:
        self._stalled_s = self.stalled_s
        for position in positions:
            self._window.ack(position)
        self._last_ack = self._loop.time()
