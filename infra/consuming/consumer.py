"""Hearing: one session's deliveries from a durable consumer, and their cumulative acknowledgement.

Pull requests overlap, so the server never waits for the next one. An acknowledgement covers all deliveries before it,
so it may go only up to the last one of an unbroken run: a message lost on its way must not be acknowledged by its
successor, nor one that waits for another attempt.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Final

import structlog

from contracts.wire import MSG_ID
from infra.broker.client import BrokerClient, header, status
from infra.broker.errors import ConsumerFailed
from infra.broker.streams import EVENTS
from infra.broker.truncation import ReceivedPositions
from infra.consuming.retry_queue import FailureHandling, RetryQueue
from infra.core.messages import Delivery, Handler, StreamPosition

logger = structlog.get_logger()

PULL_BATCH: Final = 512  # messages
PULL_EXPIRES_S: Final = 5.0
SILENCE_S: Final = 3 * PULL_EXPIRES_S
"""Without a message or an expired pull for this long, the consumer is taken to be gone."""

_MSG_ID: Final = MSG_ID.encode()


HEARD_BY: Final = "heard-by"
"""Subjects, one for each consumer, on which a session says that it is the one that hears it now; in no stream."""


class ConsumerSession:
    """One session of a consumer: the `Acknowledger` of whoever is told."""

    def __init__(
        self,
        consumer: str,
        nc: BrokerClient,
        handler: Handler,
        received: ReceivedPositions,
        handling: FailureHandling,
    ) -> None:
        """`handling` is asked about what the listener refused."""
        self._nc = nc
        self._handler = handler
        self._received = received
        self.retry_queue = RetryQueue(handling, self._resolved, self.failed)
        self._waiting: set[int] = set()
        """Numbers of the deliveries that wait, in the parking."""
        self._behind: deque[tuple[int, str]] = deque()
        """Numbers and receipts of those that are done, and may be acknowledged when what waits before them is."""
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}.{consumer}"
        self._inbox = nc.new_inbox()
        self._heard_by = f"{HEARD_BY}.{consumer}"
        self._asked_for = 0
        self._last_delivery = 0
        self._loop = asyncio.get_running_loop()
        self._last_sign = self._loop.time()
        self._to_acknowledge = ""
        self._wake = asyncio.Event()
        self._listening = True
        self._error: Exception | None = None
        self.closed = False

    async def take_over(self) -> None:
        """End any other session that hears this consumer, right before the consumer is reset for this one.

        There is none as long as one process works on a store. A reset counts deliveries from 1 again, and the other
        session could take one of these for the next of its own, and acknowledge with it what came to neither. It
        learns of this first: a server gives a connection what there is for it in the order in which it got it.
        """
        await self._nc.listen(self._heard_by, self._on_another)
        await self._nc.publish(self._heard_by, self._inbox.encode())

    def _on_another(self, _: bytes, __: bytes, inbox: bytes, ___: bytes) -> None:
        if inbox != self._inbox.encode():
            self.failed(ConsumerFailed("another session hears this consumer now: does a second process work here?"))

    async def run(self) -> None:
        """Pull, hand over and acknowledge until something fails. Raises HearingFailed or what the listener met."""
        await self._nc.listen(self._inbox, self._on_message)
        while self._error is None:
            if self._listening and self._asked_for < PULL_BATCH // 2:
                await self._pull()
            await self._acknowledge()
            self._wake.clear()
            if self._error is None:
                await self._sign_of_life()
        raise self._error

    async def finish(self, drained: Awaitable[None]) -> None:
        """Take no more deliveries, and acknowledge those that were taken once they are recorded (`drained`)."""
        self._listening = False
        await drained
        await self._acknowledge()
        self.closed = True

    async def _pull(self) -> None:
        self._asked_for += PULL_BATCH
        expires_ns = int(PULL_EXPIRES_S * 1e9)
        await self._nc.publish(self._next, b'{"batch":%d,"expires":%d}' % (PULL_BATCH, expires_ns), self._inbox)

    async def _sign_of_life(self) -> None:
        try:
            async with asyncio.timeout(SILENCE_S):
                await self._wake.wait()
        except TimeoutError:
            if self._loop.time() - self._last_sign >= SILENCE_S:
                raise ConsumerFailed(f"the broker has been silent for {SILENCE_S} s") from None

    def _on_message(self, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        self._last_sign = self._loop.time()
        if self.closed or not self._listening:
            return
        if not reply:
            self._on_status(head)
            return
        sequence, number, stored_ns = numbers(reply)
        if number != self._last_delivery + 1:  # also the first: a new or reset consumer counts from 1
            self.failed(ConsumerFailed(f"delivery {number} came after {self._last_delivery}: some were dropped"))
            return
        self._last_delivery = number
        self._asked_for -= 1
        mark = StreamPosition(sequence, stored_ns // 1_000)
        told = subject.decode(errors="backslashreplace")
        self._handler.handle(Delivery(header(head, _MSG_ID), body, reply.decode(), mark, told, head, number), self)
        if self._asked_for < PULL_BATCH // 2:
            self._wake.set()

    def _on_status(self, head: bytes) -> None:
        code, description = status(head)
        if code == "100":  # heartbeat
            return
        if code not in ("404", "408"):  # neither "nothing there" nor "this pull is over"
            self.failed(ConsumerFailed(f"the broker ended the pull: {code} {description}"))
            return
        self._asked_for -= int(header(head, b"Nats-Pending-Messages") or PULL_BATCH)
        self._wake.set()

    def handled(self, delivery: Delivery) -> None:
        self._received.add(delivery.position)
        self._behind.append((delivery.number, delivery.ack_subject))
        self._may_acknowledge()

    def defers(self, delivery: Delivery) -> bool:
        if not self.retry_queue.takes(delivery):
            return False
        self._waiting.add(delivery.number)
        return True

    def rejected(self, delivery: Delivery, error: Exception) -> None:
        self._waiting.add(delivery.number)
        self.retry_queue.rejected(delivery, error)

    def _resolved(self, delivery: Delivery) -> None:
        """It waits no longer: what it asks for is recorded, or it is parked."""
        self._waiting.discard(delivery.number)
        self._may_acknowledge()

    def _may_acknowledge(self) -> None:
        first = min(self._waiting, default=None)
        while self._behind and (first is None or self._behind[0][0] < first):
            _, self._to_acknowledge = self._behind.popleft()
            self._wake.set()

    def failed(self, error: Exception) -> None:
        self._error = self._error or error
        self.closed = True
        self._wake.set()

    async def _acknowledge(self) -> None:
        if self._to_acknowledge:
            ack_subject, self._to_acknowledge = self._to_acknowledge, ""
            await self._nc.publish(ack_subject, b"+ACK")


def numbers(ack_subject: bytes) -> tuple[int, int, int]:
    """A delivery's sequence in the stream, its number of the consumer's, and when it was stored (ns since 1970)."""
    tokens = ack_subject.split(b".")
    # $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<delivery>.<time>.<pending>; or with domain and account
    sequence, number, stored_ns = map(int, tokens[5:8] if len(tokens) == 9 else tokens[7:10])
    return sequence, number, stored_ns
