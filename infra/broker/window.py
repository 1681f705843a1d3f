"""The span of log positions that a relay may have in flight."""

from collections import deque
from typing import Final

WINDOW: Final = 512  # log positions


class Window:
    """Tracks the log positions that were sent and are not acknowledged yet, and bounds how far they are above `acked`.

    `sent` adds positions in rising order, which need not follow each other. `ack` may take them in any order.
    A position may be sent only if `admits` allows it.
    """

    def __init__(self, acked: int, span: int = WINDOW) -> None:
        self.acked = acked
        """Every position up to this one, included, is acknowledged or was not to be sent."""
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
