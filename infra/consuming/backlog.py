"""What a consumer has yet to hear, by the last look at the broker: how many messages, and since when the oldest waits.

The time needs no request of its own. Every message that is not heard yet was stored after the one that was handled
last, and after the last look that found none waiting. The lag counts from the later of these two, also of an earlier
session of the process; before there is either, from when the consumer was added to this session.
"""

from time import time

from nats.js.api import ConsumerInfo

from infra.broker.truncation import ReceivedPositions


class Backlog:
    """One durable consumer's backlog in one session."""

    def __init__(self, received: ReceivedPositions) -> None:
        self._received = received
        self._began_s = time()
        self.pending = 0
        """Messages that the broker has not delivered yet."""
        self.unacknowledged = 0
        """Messages that were delivered, and wait to be acknowledged."""
        self.redelivered = 0
        """How many deliveries were of messages that this process had received before."""

    def looked(self, info: ConsumerInfo) -> None:
        """Keep the broker's counts; note the time in `received` if nothing is to be delivered or acknowledged."""
        self.pending, self.unacknowledged = info.num_pending or 0, info.num_ack_pending or 0
        if not (self.pending or self.unacknowledged):
            self._received.level_s = time()

    @property
    def lag_s(self) -> float:
        """About how many seconds the oldest message after the last handled one waits, at most.

        0 if the last look found none, and before the first look.
        """
        if not (self.pending or self.unacknowledged):
            return 0.0
        newest, level_s = self._received.newest, self._received.level_s
        known = [] if newest is None else [newest.stored_us / 1e6]
        if level_s is not None:
            known.append(level_s)
        return max(0.0, time() - max(known, default=self._began_s))
