"""The orders under way, accepted and not ended yet. Too many, or more than end soon, and the door closes to new ones.

An order that is taken in has to end in time, and whoever waits for it holds a connection and memory. When the steps
behind the door are slower than what comes in, better say so at once than accept what will miss its deadline.
"""

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from contracts import Fact, OrderCanceled, OrderConfirmed, OrderCreatedPending

FEW: Final = 64
"""So many orders may be under way however slowly they end: a few that something holds up turn nobody away."""
AT_A_GLANCE: Final = 0.1
"""It takes a tenth of the time in which orders should end to judge how fast they do."""


class UnderWay:
    """Counts what this process has accepted; what it found left open at its start is on its way out and not counted.

    At most `most` at a time, and no more than end within `soon_s` at the rate at which others ended lately: whoever
    came in behind more would wait for longer, the services being as fast as they are (Little's law).
    """

    def __init__(self, most: int, soon_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._most = most
        self._soon_s = soon_s
        self._clock = clock
        self._orders: set[str] = set()
        self._busy_since: float | None = None
        """Since when there have been more than a few."""
        self._ends: deque[tuple[float, int]] = deque()
        """When orders ended, and how many; of the last `soon_s`, and since it has been busy."""
        self._ended = 0
        """The sum of these."""

    def recorded(self, facts: Sequence[Fact]) -> None:
        before = len(self._orders)
        came = ended = 0
        for fact in facts:
            if isinstance(fact, OrderCreatedPending):
                self._orders.add(fact.order_id)
                came += 1
            elif isinstance(fact, OrderConfirmed | OrderCanceled):
                self._orders.discard(fact.order_id)
        ended = before + came - len(self._orders)
        if len(self._orders) <= FEW:
            self._busy_since = None
            self._ends.clear()
            self._ended = 0
        elif self._busy_since is None:
            self._busy_since = self._clock()
        elif ended:
            self._ends.append((self._clock(), ended))
            self._ended += ended

    def closed(self, order_id: str, waiting: int) -> str | None:
        """Why this order may not come in; None if it may.

        It may if it is in already, or if there is room besides those `waiting` to be recorded.
        """
        if order_id in self._orders:
            return None
        ahead = len(self._orders) + waiting
        if ahead >= self._most:
            return "too many orders are under way"
        if self._busy_since is not None and ahead > self._soon():
            return "more orders are under way than end soon"
        return None

    def _soon(self) -> float:
        """How many orders will end within `soon_s`, after how many did lately."""
        assert self._busy_since is not None
        now = self._clock()
        looked = min(self._soon_s, now - self._busy_since)
        if looked < AT_A_GLANCE * self._soon_s:
            return self._most
        while self._ends and self._ends[0][0] < now - self._soon_s:
            self._ended -= self._ends.popleft()[1]
        return max(FEW, self._ended * self._soon_s / looked)
