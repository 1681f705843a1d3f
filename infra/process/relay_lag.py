"""How far the stream lags the log: how many facts are not published yet, and for how long the oldest waits.

Facts from before the start, and those that the stream lost, count and wait only since a session found them missing.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from infra.broker.relay import Relay

GROUP_S: Final = 0.1
"""Commits within this time are remembered as one, recorded when the first of them was."""


class RelayLag:
    """Remembers when the facts were recorded that the relay has not published yet.

    Before the first session, facts from before the start count as published.
    """

    def __init__(self, relay: Callable[[], Relay | None], log_end: int, clock: Callable[[], float] = monotonic) -> None:
        """`relay` returns the present session's relay, None without one; `log_end`: the log's last position.

        `clock` returns seconds that only rise.
        """
        self._relay = relay
        self._clock = clock
        self._published = log_end
        self._waiting: deque[tuple[int, float]] = deque()
        """Position of a commit's last fact, and when it was recorded, or found to lack; the oldest first."""
        self._lost = 0
        """How many facts before the last published one the stream lost, and has not again; as of the last look."""
        self._lost_since = 0.0
        self.end = log_end
        """The position of the log's last fact, as far as this process knows."""

    def recorded(self, facts: int) -> None:
        """Count so many facts that were just appended to the log."""
        self.end += facts
        now = self._clock()
        if self._waiting and now - self._waiting[-1][1] < GROUP_S:
            now = self._waiting.pop()[1]
        self._waiting.append((self.end, now))
        if len(self._waiting) > 1:
            self._look()

    @property
    def facts(self) -> int:
        self._look()
        return max(0, self.end - self._published) + self._lost

    @property
    def seconds(self) -> float:
        self._look()
        now = self._clock()
        return now - min(self._waiting[0][1] if self._waiting else now, self._lost_since if self._lost else now)

    def _look(self) -> None:
        relay = self._relay()
        if relay is not None:
            self._published = relay.acked
            self.end = max(self.end, relay.acked)  # another process may have recorded facts
            self._lost_since = self._lost_since if self._lost else self._clock()
            self._lost = sum(until - after for after, until in relay.gaps)
        while self._waiting and self._waiting[0][0] <= self._published:
            self._waiting.popleft()
        if not self._waiting and self.end > self._published:  # facts of before the start, or that the stream lost
            self._waiting.append((self.end, self._clock()))
