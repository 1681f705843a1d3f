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


class AdmissionControl:
    """Counts what this process has accepted; what it found left open at its start is on its way out and not counted.

    At most `most` at a time, and no more than end within `soon_s` at the rate at which others ended lately: whoever
    came in behind more would wait for longer, the services being as fast as they are (Little's law). Orders whose
    time ran out are no sign of that. After `soon_s` with but a few nobody knows how fast the services are, and a crowd
    is judged by itself.
    """

    def __init__(self, most: int, soon_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._most = most
        self._soon_s = soon_s
        self._clock = clock
        self._orders: set[str] = set()
        self._busy_since: float | None = None
        """Since when there have been more than a few, now and then."""
        self._few_since = 0.0
        """If there are no more than a few: since when."""
        self._ends: deque[tuple[float, int]] = deque()
        """When orders ended, and how many; of the last `soon_s`, and since it has been busy."""
        self._ended = 0
        """The sum of these."""

    def recorded(self, facts: Sequence[Fact]) -> None:
        now, were_few, ended = self._clock(), len(self._orders) <= FEW, 0
        for fact in facts:
            if isinstance(fact, OrderCreatedPending):
                self._orders.add(fact.order_id)
            elif isinstance(fact, OrderConfirmed | OrderCanceled) and fact.order_id in self._orders:
                self._orders.remove(fact.order_id)
                ended += not (isinstance(fact, OrderCanceled) and fact.reason == "deadline-exceeded")
        if were_few and self._busy_since is not None and now - self._few_since >= self._soon_s:
            self._forget()
        if len(self._orders) <= FEW:
            self._few_since = self._few_since if were_few else now
        elif self._busy_since is None:
            self._busy_since = now
        if ended and self._busy_since is not None:
            self._ends.append((now, ended))
            self._ended += ended
            self._prune(now)

    def _forget(self) -> None:
        self._busy_since = None
        self._ends.clear()
        self._ended = 0

    def _prune(self, now: float) -> None:
        while self._ends and self._ends[0][0] < now - self._soon_s:
            self._ended -= self._ends.popleft()[1]

    def closed(self, order_id: str, waiting: int) -> str | None:
        """Why this order may not come in; None if it may.

        It may if it is in already, or if there is room besides those `waiting` to be recorded.
        """
        if order_id in self._orders:
            return None
        ahead = len(self._orders) + waiting
        if ahead >= self._most:
            return "too many orders are under way"
        if ahead > FEW and self._busy_since is not None and ahead > self._soon(self._busy_since):
            return "more orders are under way than end soon"
        return None

    def _soon(self, busy_since: float) -> float:
        """How many orders will end within `soon_s`, after how many did lately."""
        now = self._clock()
        looked = min(self._soon_s, now - busy_since)
        if looked < AT_A_GLANCE * self._soon_s:
            return self._most
        self._prune(now)
        return self._ended * self._soon_s / looked
