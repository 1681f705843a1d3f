"""One durable consumer in one session: its deliveries, and their cumulative acknowledgement.

An acknowledgement covers all deliveries before it. So it may go only up to the last delivery of an unbroken run. It
must not cover a message that was lost on its way, or one that waits for another attempt.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

import structlog
from nats.js import JetStreamContext

from contracts.wire import MSG_ID
from infra.broker.client import BrokerClient, header
from infra.broker.consumers import ConsumerPlace, session_of
from infra.broker.errors import ConsumerFailed
from infra.broker.pull import PULL_EXPIRES_S, SILENCE_S, Pull, numbers
from infra.broker.truncation import ReceivedPositions
from infra.consuming.backlog import Backlog
from infra.consuming.handler import Handler
from infra.consuming.retry_queue import RetryQueue
from infra.core.messages import Delivery, StreamPosition

logger = structlog.get_logger()

PULL_BATCH: Final = 512  # messages

_MSG_ID: Final = MSG_ID.encode()

TAKEN_OVER: Final = "another session took over this consumer: is a second process running?"


class DurableConsumer:
    """Pulls a consumer's deliveries in one session, hands them to a handler, and acknowledges those it has handled.

    A DurableConsumer is the handler's `Acknowledger`. Reset the consumer at the broker, then call `run` once.
    """

    def __init__(
        self,
        place: ConsumerPlace,
        nc: BrokerClient,
        handler: Handler,
        received: ReceivedPositions,
        retry_queue: RetryQueue,
        *,
        session: str,
        failed: Callable[[Exception], None],
        expires_s: float = PULL_EXPIRES_S,
        silence_s: float = SILENCE_S,
        pull_batch: int = PULL_BATCH,
    ) -> None:
        """`received` gets the position of each call of `handled`. A request asks for `pull_batch` messages, 2 or more.

        A request expires after `expires_s` seconds. `run` fails if the broker sends nothing for `silence_s` seconds.
        `session` is the name of the session that the consumer was reset for. `failed` is called with the error if the
        session must end, and has to call this consumer's `stop`.
        """
        self.place = place
        self.name, self.durable = place.key, place.name
        self._nc = nc
        self._handler = handler
        self._received = received
        self._retry_queue = retry_queue
        self._session = session
        self.failed = failed
        self._pull = Pull(
            nc, *place, pull_batch, deliver=self._on_delivery, failed=failed, expires_s=expires_s, silence_s=silence_s
        )
        self._waiting: set[int] = set()
        """Numbers of the deliveries in the retry queue."""
        self._behind: deque[tuple[int, str]] = deque()
        """Numbers and ack subjects of handled deliveries, to be acknowledged once no delivery before them waits."""
        self._last_delivery = 0
        self._looked_at: int | None = None
        """The last delivery when the broker was asked about the consumer; None: not yet."""
        self._to_acknowledge = ""
        self.acknowledged: int | None = None
        """The sequence up to which this session has acknowledged all deliveries; None: nothing yet."""
        self.confirmed: int | None = None
        """What `acknowledged` was when the broker was last asked and said that the consumer is still this session's."""
        self.backlog = Backlog(received)
        self.closed = False
        self.retired = False
        """Whether nothing more can come: its generation is sealed, and all that it hears there is acknowledged."""
        self.paused: str | None = None
        """In words, that the consumer is paused, and what to do; None if it is not."""

    async def run(self) -> None:
        """Pull, hand over and acknowledge until `stop` is called; once `retired`, only wait for that call.

        Raises ConsumerFailed if the broker is silent; the client's errors.
        """
        if not self.retired:
            await self._pull.begin()
        while not self.closed:
            if self.retired:
                self._pull.wake.clear()
                await self._pull.wake.wait()
                continue
            await self._pull.request()
            await self.acknowledge()
            self._pull.wake.clear()
            if not self.closed:
                await self._pull.sign_of_life()

    @property
    def idle(self) -> bool:
        """Whether the last look found nothing to be delivered or acknowledged and no pause, and nothing came since."""
        waits = self.backlog.pending or self.backlog.unacknowledged or self.paused
        return self._looked_at == self._last_delivery and not waits

    async def look(self, js: JetStreamContext, *, sealed: bool = False) -> None:
        """Ask the broker about the consumer; set `backlog`, `confirmed` and `paused` (a text; None: not paused).

        If its generation is `sealed`, and nothing there is left to deliver or acknowledge, this sets `retired`: no more
        is pulled. Of a retired consumer nothing is set. Raises ConsumerFailed if an acknowledgement jams the consumer,
        another session has it now, or somebody reset it after it was retired; the client's errors, such as for a
        consumer that is gone.
        """
        before = self.acknowledged
        info = await js.consumer_info(*self.place)
        left = info.num_pending or info.num_ack_pending or self._waiting or self._behind or self._to_acknowledge
        if self.retired:
            if left:
                raise ConsumerFailed(
                    f"the consumer {self.place.name} has acknowledged messages to deliver again: somebody reset it, "
                    "and the next session hears them"
                )
            return
        if session_of(info) != self._session:
            raise ConsumerFailed(TAKEN_OVER)
        self.confirmed, self._looked_at = before, self._last_delivery
        self.backlog.looked(info)
        acknowledged, delivered = info.ack_floor, info.delivered
        if acknowledged and delivered and (acknowledged.consumer_seq or 0) > (delivered.consumer_seq or 0):
            # The consumer would take no acknowledgement before it has delivered that many messages, and it delivers no
            # more than may wait for one.
            raise ConsumerFailed("an acknowledgement from before the consumer's reset came after it: it is reset again")
        paused = (
            f"the consumer {self.place.name} is paused until {info.config.pause_until}, so nothing is delivered: "
            f"`nats consumer resume {self.place.stream} {self.place.name}` ends that"
            if info.paused
            else None
        )
        if paused and not self.paused:
            logger.error("consumer paused", reason=paused)
        self.paused = paused
        self.retired = sealed and not left
        if self.retired:
            self.paused = None  # nothing is to come, so it makes nobody wait
            self._pull.stopped = True  # its end, once the generation is archived, is no failure
            self._received.keep_last()

    def take_no_more(self) -> None:
        """Hand over no more deliveries, and ask for none. Those that were handed over can still be acknowledged."""
        self._pull.stopped = True

    def stop(self) -> None:
        """Hand over and take nothing more; `run` returns."""
        self.closed = self._pull.stopped = True
        self._pull.wake.set()

    def _on_delivery(self, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        sequence, number, stored_ns = numbers(reply)
        if number != self._last_delivery + 1:  # also the first: a new or reset consumer counts from 1
            self.failed(ConsumerFailed(f"delivery {number} came after {self._last_delivery}: some were dropped"))
            return
        self._last_delivery = number
        if self._received.delivered(sequence):
            self.backlog.redelivered += 1
        position = StreamPosition(sequence, stored_ns // 1_000)
        name = subject.decode(errors="backslashreplace")
        self._handler.handle(Delivery(header(head, _MSG_ID), body, reply.decode(), position, name, head, number), self)

    # As the handler's Acknowledger ------------------------------------------------------------------------------------

    def handled(self, delivery: Delivery) -> None:
        self._received.add(delivery.position)
        self._behind.append((delivery.number, delivery.ack_subject))
        self._may_acknowledge()

    def defers(self, delivery: Delivery) -> bool:
        if not self._retry_queue.takes(delivery, self._resolved):
            return False
        self._waiting.add(delivery.number)
        return True

    def rejected(self, delivery: Delivery, error: Exception) -> None:
        self._waiting.add(delivery.number)
        self._retry_queue.rejected(delivery, self._resolved, error)

    def _resolved(self, delivery: Delivery) -> None:
        """Let acknowledgements pass this delivery, which waited: its reaction is recorded, or it is a dead letter."""
        self._waiting.discard(delivery.number)
        self._may_acknowledge()

    def _may_acknowledge(self) -> None:
        first = min(self._waiting, default=None)
        while self._behind and (first is None or self._behind[0][0] < first):
            _, self._to_acknowledge = self._behind.popleft()
            self._pull.wake.set()

    async def acknowledge(self) -> None:
        """Acknowledge what is handled before the first delivery that still waits. Raises the client's errors."""
        if self._to_acknowledge:
            ack_subject, self._to_acknowledge = self._to_acknowledge, ""
            await self._nc.publish(ack_subject, b"+ACK")
            self.acknowledged = numbers(ack_subject.encode())[0]
