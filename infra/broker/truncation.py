"""Detects that the stream was truncated, or replaced, since its messages were received.

A broker that lost the tail of its stream fills the same sequences again, in another order. Its consumers may remember
more than the stream has, or may not. Once others have published again, sequence numbers do not show the loss. The facts
do not show it either: the same fact may get the same sequence again, behind a fact that was never received. The
time at which the broker stored a message does show it.
"""

from collections import deque
from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from infra.broker.streams import EVENTS
from infra.core.messages import StreamPosition
from infra.timestamps import microseconds

KEPT: Final = 4_096  # positions; one for each batch, so half a minute of the heaviest load


class ReceivedPositions:
    """Positions of messages that a consumer has received, in the order of their receipt."""

    def __init__(self) -> None:
        self._received: deque[StreamPosition] = deque(maxlen=KEPT)

    def add(self, position: StreamPosition) -> None:
        self._received.append(position)

    async def truncated_after(self, js: JetStreamContext) -> int | None:
        """The last received sequence that still has the same message; 0 if none has; None if the newest one has.

        Behind it the stream was written again, and has to be received from there. Raises the client's errors.
        """
        if not self._received or await _still_there(js, self._received[-1]):
            return None
        positions = sorted(self._received)
        good, bad = -1, len(positions) - 1  # a tail was lost: all positions up to some point still hold, none after it
        while bad - good > 1:
            middle = (good + bad) // 2
            if await _still_there(js, positions[middle]):
                good = middle
            else:
                bad = middle
        return positions[good].sequence if good >= 0 else 0

    def forget_after(self, sequence: int) -> None:
        """Forget the positions after this sequence. Call it only once the consumer has gone back there.

        If a session fails before that, the next one has to find the truncation again.
        """
        self._received = deque((position for position in self._received if position.sequence <= sequence), maxlen=KEPT)


async def _still_there(js: JetStreamContext, position: StreamPosition) -> bool:
    try:
        found = await js.get_msg(EVENTS, position.sequence, direct=True)
    except NotFoundError:
        return False
    return found.time is not None and microseconds(found.time) == position.stored_us
