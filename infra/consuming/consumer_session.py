"""One session of a service or a read model with the broker: its durable consumers on the generations of the stream.

Each consumer delivers in the stream's order, but the consumers do not wait for each other. So a service may hear an
effect before its cause; its fences allow that. The retry queue is shared: behind a failed message,
a service's later ones of its key wait, whichever consumer delivers them.
"""

import asyncio
from collections.abc import Awaitable, Collection, Mapping
from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from infra.aio import first_of
from infra.broker.client import BrokerClient
from infra.broker.consumers import ConsumerPlace
from infra.broker.errors import ConsumerFailed
from infra.broker.pull import PULL_EXPIRES_S, SILENCE_S
from infra.broker.truncation import ReceivedPositions
from infra.consuming.consumer import PULL_BATCH, TAKEN_OVER, DurableConsumer
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.handler import Handler
from infra.consuming.retry_queue import PAUSES_S, RetryQueue

STREAM_NOT_FOUND: Final = 10_059
"""The server's error code for a question about a stream that it has not."""

IDLE_LOOKS: Final = 2
"""The broker is asked about an idle consumer in one look of so many: on an idle system these questions cost the most.
With more, a late acknowledgement that jams the consumer would not be seen within two seconds."""

HEARD_BY: Final = "heard-by"
"""Prefix of the subjects, one for each listener, on which a session announces that it takes over. No stream stores
these messages."""


class ConsumerSession:
    """Runs a listener's consumers in one session. Call `take_over`, reset the consumers, then call `run` once."""

    def __init__(
        self,
        listener: str,
        nc: BrokerClient,
        handler: Handler,
        received: Mapping[ConsumerPlace, ReceivedPositions],
        dead_letters: DeadLetters,
        *,
        expires_s: float = PULL_EXPIRES_S,
        silence_s: float = SILENCE_S,
        pauses_s: tuple[float, ...] = PAUSES_S,
        pull_batch: int = PULL_BATCH,
    ) -> None:
        """`listener` is the name of the service or read model. `received` has, for each consumer to begin with, the
        positions that it received; that of each call of `handled` is added.

        A message that `handler` rejects is retried after each of `pauses_s` (seconds) until an attempt succeeds; after
        the last failure it is dead-lettered. The other parameters are as in DurableConsumer.
        """
        self.listener = listener
        self._nc = nc
        self.name = nc.new_inbox()
        """Differs from that of every other session."""
        self._handler = handler
        self.retry_queue = RetryQueue(handler, dead_letters, self.failed, pauses_s)
        self._expires_s = expires_s
        self._silence_s = silence_s
        self._pull_batch = pull_batch
        self.consumers: list[DurableConsumer] = []
        self._added: asyncio.Queue[list[DurableConsumer]] = asyncio.Queue()
        self._finishing = False
        self._looks = 0
        self.add(received)
        self._heard_by = f"{HEARD_BY}.{listener}"
        self._error: Exception | None = None

    def add(self, received: Mapping[ConsumerPlace, ReceivedPositions], retired: Collection[ConsumerPlace] = ()) -> None:
        """Add consumers, such as those of a generation that was made since. No effect once the session is finishing.

        All of them have been reset for this session, except those in `retired`, which have nothing more to deliver.
        """
        added = [
            DurableConsumer(
                place,
                self._nc,
                self._handler,
                positions,
                self.retry_queue,
                session=self.name,
                failed=self.failed,
                expires_s=self._expires_s,
                silence_s=self._silence_s,
                pull_batch=self._pull_batch,
            )
            for place, positions in received.items()
        ]
        for consumer in added:
            consumer.retired = consumer.place in retired
        if self._finishing or not added:  # what they would deliver comes again in the next session
            return
        self.consumers += added
        self._added.put_nowait(added)

    async def take_over(self) -> None:
        """Announce this session, so that any other session of this listener fails. Raises the client's errors.

        Call it right before the consumers are reset for this session. Normally there is no other one. A reset restarts
        delivery numbers at 1, so a stale session could mistake a new delivery for its next one. As acknowledgements are
        cumulative, it would acknowledge messages that neither session has received. NATS delivers to a connection in
        publish order, so this notice reaches the stale session first. Should it be lost, the stale session finds out at
        its next look, and its process goes back to what the look before it had confirmed (`AcknowledgedPosition`).
        """
        await self._nc.listen(self._heard_by, self._on_another)
        await self._nc.publish(self._heard_by, self.name.encode())

    def _on_another(self, _: bytes, __: bytes, session: bytes, ___: bytes) -> None:
        if session != self.name.encode():
            self.failed(ConsumerFailed(TAKEN_OVER))

    async def run(self) -> None:
        """Pull, hand over and acknowledge until something fails, or `close` is called.

        Raises the first error that `failed` was called with, ConsumerFailed if the broker is silent, or the client's
        errors.
        """
        if self._error is None:
            await self._run_added()
        if self._error is not None:
            raise self._error

    async def _run_added(self) -> None:
        """Wait for consumers to be added; run these and those added later until the first of them all ends."""
        added = await self._added.get()
        await first_of(*(consumer.run() for consumer in added), self._run_added())

    @property
    def paused(self) -> str | None:
        """In words, which consumer is paused (the first of several), and what to do; None if none is."""
        return next((consumer.paused for consumer in self.consumers if consumer.paused), None)

    async def look(self, js: JetStreamContext, sealed: Collection[str] = ()) -> None:
        """Ask the broker about each consumer that is not retired, and about one of the retired ones, in turns.

        An idle consumer of an unsealed generation is asked about in one of IDLE_LOOKS looks. `sealed`: the names of the
        sealed generations. A retired consumer of any other generation is not asked about: that has left the broker.
        Raises the errors of `DurableConsumer.look`, but none if a retired consumer's stream is gone.
        """
        retired = [consumer for consumer in self.consumers if consumer.retired and consumer.place.stream in sealed]
        one = retired[self._looks % len(retired) :][:1] if retired else []
        self._looks += 1
        for consumer in [consumer for consumer in self.consumers if not consumer.retired] + one:
            if consumer.idle and consumer.place.stream not in sealed and self._looks % IDLE_LOOKS:
                continue
            try:
                await consumer.look(js, sealed=consumer.place.stream in sealed)
            except NotFoundError as error:
                # Its generation is gone: the next look at the generations says whether an archive has it.
                if not consumer.retired or error.err_code != STREAM_NOT_FOUND:
                    raise

    async def finish(self, drained: Awaitable[None]) -> None:
        """Take no more deliveries, await `drained`, and acknowledge what is handled.

        `drained` ends once the handler has recorded all that it was handed. Deliveries in the retry queue, and those
        after them of the same consumer, stay unacknowledged. Raises the client's errors.
        """
        self._finishing = True
        for consumer in self.consumers:
            consumer.take_no_more()
        await drained
        for consumer in self.consumers:
            await consumer.acknowledge()

    def close(self) -> None:
        """End the session: hand over and retry nothing more; `run` returns, or raises if `failed` was called before."""
        for consumer in self.consumers:
            consumer.stop()
        self.retry_queue.close()

    def failed(self, error: Exception) -> None:
        """End the session; `run` raises this error, or the one with which this was called first."""
        self._error = self._error or error
        for consumer in self.consumers:
            consumer.stop()
