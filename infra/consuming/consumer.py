"""One session with a durable consumer: its deliveries, and their cumulative acknowledgement.

An acknowledgement covers all deliveries before it. So it may go only up to the last delivery of an unbroken run. It
must not cover a message that was lost on its way, or one that waits for another attempt.
"""

from collections import deque
from collections.abc import Awaitable
from typing import Final

import structlog
from nats.js import JetStreamContext

from contracts.wire import MSG_ID
from infra.broker.client import BrokerClient, header
from infra.broker.errors import ConsumerFailed
from infra.broker.pull import PULL_EXPIRES_S, SILENCE_S, Pull, numbers
from infra.broker.streams import EVENTS
from infra.broker.truncation import ReceivedPositions
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.handler import Handler
from infra.consuming.retry_queue import PAUSES_S, RetryQueue
from infra.core.messages import Delivery, StreamPosition

logger = structlog.get_logger()

PULL_BATCH: Final = 512  # messages

_MSG_ID: Final = MSG_ID.encode()

HEARD_BY: Final = "heard-by"
"""Prefix of the subjects, one for each consumer, on which a session announces that it takes over. No stream stores
these messages."""


class ConsumerSession:
    """Pulls a consumer's deliveries in one session, hands them to a handler, and acknowledges what the handler reports.

    It is the handler's `Acknowledger`. Call `take_over`, reset the consumer, then call `run` once.
    """

    def __init__(
        self,
        consumer: str,
        nc: BrokerClient,
        handler: Handler,
        received: ReceivedPositions,
        dead_letters: DeadLetters,
        *,
        expires_s: float = PULL_EXPIRES_S,
        silence_s: float = SILENCE_S,
        pauses_s: tuple[float, ...] = PAUSES_S,
        pull_batch: int = PULL_BATCH,
    ) -> None:
        """A message that `handler` rejects is retried after each of `pauses_s` (seconds), then dead-lettered.

        `received` gets the positions of handled deliveries. A pull request asks for `pull_batch` messages, 2 or more.
        """
        self.name = consumer
        self._nc = nc
        self._handler = handler
        self._received = received
        self.retry_queue = RetryQueue(handler, dead_letters, self._resolved, self.failed, pauses_s)
        self._pull = Pull(
            nc,
            EVENTS,
            consumer,
            pull_batch,
            deliver=self._on_delivery,
            failed=self.failed,
            expires_s=expires_s,
            silence_s=silence_s,
        )
        self._waiting: set[int] = set()
        """Numbers of the deliveries in the retry queue."""
        self._behind: deque[tuple[int, str]] = deque()
        """Numbers and ack subjects of handled deliveries, to be acknowledged once no delivery before them waits."""
        self._heard_by = f"{HEARD_BY}.{consumer}"
        self._last_delivery = 0
        self._to_acknowledge = ""
        self.acknowledged: int | None = None
        """The sequence up to which this session has acknowledged all deliveries; None: nothing yet."""
        self._error: Exception | None = None
        self.closed = False
        self.paused: str | None = None
        """In words, that the consumer is paused, and what to do; None if it is not."""

    async def take_over(self) -> None:
        """Announce this session, so that any other session of this consumer fails. Raises the client's errors.

        Call it right before the consumer is reset for this session. Normally there is no other one. A reset restarts
        delivery numbers at 1, so a stale session could mistake a new delivery for its next one. As acknowledgements are
        cumulative, it would acknowledge messages that neither session has received. NATS delivers to a connection in
        publish order, so this notice reaches the stale session first.
        """
        await self._nc.listen(self._heard_by, self._on_another)
        await self._nc.publish(self._heard_by, self._pull.inbox.encode())

    def _on_another(self, _: bytes, __: bytes, inbox: bytes, ___: bytes) -> None:
        if inbox != self._pull.inbox.encode():
            self.failed(ConsumerFailed("another session took over this consumer: is a second process running?"))

    async def run(self) -> None:
        """Pull, hand over and acknowledge until something fails; never returns.

        Raises the first error that `failed` was called with, ConsumerFailed if the broker is silent, or the client's
        errors.
        """
        await self._pull.begin()
        while self._error is None:
            await self._pull.request()
            await self._acknowledge()
            self._pull.wake.clear()
            if self._error is None:
                await self._pull.sign_of_life()
        raise self._error

    async def look(self, js: JetStreamContext) -> None:
        """Ask the broker about the consumer, and keep in `paused` whether it is paused.

        Raises ConsumerFailed if an acknowledgement jams it; the client's errors, such as for a consumer that is gone.
        """
        info = await js.consumer_info(EVENTS, self.name)
        acknowledged, delivered = info.ack_floor, info.delivered
        if acknowledged and delivered and (acknowledged.consumer_seq or 0) > (delivered.consumer_seq or 0):
            # The consumer would take no acknowledgement before it has delivered that many messages, and it delivers no
            # more than may wait for one.
            raise ConsumerFailed("an acknowledgement from before the consumer's reset came after it: it is reset again")
        paused = (
            f"the consumer {self.name} is paused until {info.config.pause_until}, so nothing is delivered: "
            f"`nats consumer resume {EVENTS} {self.name}` ends that"
            if info.paused
            else None
        )
        if paused and not self.paused:
            logger.error("consumer paused", reason=paused)
        self.paused = paused

    async def finish(self, drained: Awaitable[None]) -> None:
        """Take no more deliveries, await `drained` (the handler has recorded those taken), and acknowledge them.

        Those that wait in the retry queue, and all after them, stay unacknowledged. Raises the client's errors.
        """
        self._pull.stopped = True
        await drained
        await self._acknowledge()
        self.closed = True

    def close(self) -> None:
        """End the session: hand over and retry nothing more. Call it after `run`; a second call has no effect."""
        self.closed = self._pull.stopped = True
        self.retry_queue.close()

    def _on_delivery(self, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        sequence, number, stored_ns = numbers(reply)
        if number != self._last_delivery + 1:  # also the first: a new or reset consumer counts from 1
            self.failed(ConsumerFailed(f"delivery {number} came after {self._last_delivery}: some were dropped"))
            return
        self._last_delivery = number
        position = StreamPosition(sequence, stored_ns // 1_000)
        name = subject.decode(errors="backslashreplace")
        self._handler.handle(Delivery(header(head, _MSG_ID), body, reply.decode(), position, name, head, number), self)

    # As the handler's Acknowledger ------------------------------------------------------------------------------------

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

    def failed(self, error: Exception) -> None:
        self._error = self._error or error
        self.closed = self._pull.stopped = True
        self._pull.wake.set()

    def _resolved(self, delivery: Delivery) -> None:
        """Let acknowledgements pass this delivery, which waited: its reaction is recorded, or it is a dead letter."""
        self._waiting.discard(delivery.number)
        self._may_acknowledge()

    def _may_acknowledge(self) -> None:
        first = min(self._waiting, default=None)
        while self._behind and (first is None or self._behind[0][0] < first):
            _, self._to_acknowledge = self._behind.popleft()
            self._pull.wake.set()

    async def _acknowledge(self) -> None:
        if self._to_acknowledge:
            ack_subject, self._to_acknowledge = self._to_acknowledge, ""
            await self._nc.publish(ack_subject, b"+ACK")
            self.acknowledged = numbers(ack_subject.encode())[0]
