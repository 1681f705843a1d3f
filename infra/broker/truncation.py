"""Detects that the stream was truncated, or replaced, since its messages were received.

A broker that lost the tail of its stream fills the same sequences again, in another order. Its consumers may remember
more than the stream has, or may not. Once others have published again, sequence numbers do not show the loss. The facts
do not show it either: the same fact may get the same sequence again, after a fact that was never received. The time at
which the broker stored a message does show it.
"""

from collections import deque
from typing import Final

from infra.broker.leader import Leader
from infra.core.messages import StreamPosition

KEPT: Final = 4_096  # positions; one for each batch, so half a minute of the heaviest load


class ReceivedPositions:
    """Remembers stream positions of messages that a consumer received, to find out whether the stream still has them.

    `add` must be called in the order of receipt; the newest `kept` positions are remembered.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._received: deque[StreamPosition] = deque(maxlen=kept)
        self._highest = 0  # of the sequences that were delivered
        self.level_s: float | None = None
        """When a look last found that the consumer has heard all (seconds since 1970); None: none has."""

    @property
    def newest(self) -> StreamPosition | None:
        """The position that was added last; None if nothing is remembered."""
        return self._received[-1] if self._received else None

    def delivered(self, sequence: int) -> bool:
        """Take note of a delivery as soon as it comes; `add` follows once it is handled.

        Returns whether it was delivered before, as far as the sequences tell.
        """
        if sequence <= self._highest:
            return True
        self._highest = sequence
        return False

    def add(self, position: StreamPosition) -> None:
        self._received.append(position)

    async def truncated_after(self, leader: Leader) -> int | None:
        """Look for a truncation; return the last remembered sequence at which the stream still has the same message.

        The messages after that sequence may be other ones, and have to be received. 0 if no remembered message is
        there; None if the newest one is there, or nothing is remembered. Raises LeaderUnavailable, the client's errors.
        """
        if not self._received or await _still_there(leader, self._received[-1]):
            return None
        positions = sorted(self._received)
        good, bad = -1, len(positions) - 1  # a tail was lost: all positions up to some point still hold, none after it
        while bad - good > 1:
            middle = (good + bad) // 2
            if await _still_there(leader, positions[middle]):
                good = middle
            else:
                bad = middle
        return positions[good].sequence if good >= 0 else 0

    def keep_last(self) -> None:
        """Forget all positions but the newest, to save memory. Call it once nothing more can come.

        A truncation is still found, but not where it is: everything is then received again.
        """
        self._received = deque(list(self._received)[-1:], self._received.maxlen)

    def forget_after(self, sequence: int) -> None:
        """Forget positions and deliveries after this sequence. Call it only once the consumer has gone back there.

        If a session fails before that, the next one has to find the truncation again.
        """
        self._highest = min(self._highest, sequence)
        still = (position for position in self._received if position.sequence <= sequence)
        self._received = deque(still, self._received.maxlen)


async def _still_there(leader: Leader, position: StreamPosition) -> bool:
    found = await leader.at(position.sequence)
    return found is not None and found.stored_us == position.stored_us
