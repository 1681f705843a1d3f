"""What was heard where: a new session sees by it whether the stream still is the one that was heard.

A broker that lost its tail fills the same sequences again, in another order. Its consumers may remember more than the
stream has, or may not; and once others have written again, nobody can tell by the numbers. Not by the facts at them
either: the same one may stand at the same sequence again, and before it another one that was never heard. When the
broker stored what stands there, that tells.
"""

from collections import deque
from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from infra.broker.streams import EVENTS
from infra.core.messages import StreamPosition
from infra.timestamps import microseconds

KEPT: Final = 4_096  # marks; one a batch, so half a minute of the heaviest load


class ReceivedPositions:
    def __init__(self) -> None:
        self._received: deque[StreamPosition] = deque(maxlen=KEPT)

    def add(self, position: StreamPosition) -> None:
        self._received.append(position)

    async def truncated_after(self, js: JetStreamContext) -> int | None:
        """The last marked sequence that still holds what was heard there (0: none does); None if the newest one does.

        What stands behind it was written anew and has to be heard.
        """
        if not self._received or await _still_there(js, self._received[-1]):
            return None
        marks = sorted(self._received)
        good, bad = -1, len(marks) - 1  # a tail was lost: up to some position all hold, from there on none
        while bad - good > 1:
            middle = (good + bad) // 2
            if await _still_there(js, marks[middle]):
                good = middle
            else:
                bad = middle
        return marks[good].sequence if good >= 0 else 0

    def forget_after(self, sequence: int) -> None:
        """Once the consumer has gone back there, not before: until then every session has to find the place again."""
        self._received = deque((position for position in self._received if position.sequence <= sequence), maxlen=KEPT)


async def _still_there(js: JetStreamContext, position: StreamPosition) -> bool:
    try:
        found = await js.get_msg(EVENTS, position.sequence, direct=True)
    except NotFoundError:
        return False
    return found.time is not None and microseconds(found.time) == position.stored_us
