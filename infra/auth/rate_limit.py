"""How many requests one caller may send: a token bucket for each, in the memory of this process."""

from collections.abc import Callable
from time import monotonic
from typing import Final

MOST: Final = 65_536
"""So many callers are remembered at most; then those who have waited long enough are forgotten, or else the oldest."""


class RateLimit:
    """Gives each caller `per_s` requests a second, and `burst` at once after a pause."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = monotonic) -> None:
        """`clock` returns seconds."""
        self._per_s = per_s
        self._burst = float(burst)
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        """By caller: requests left, and when that was so. Whose bucket is full again need not be remembered."""

    def take(self, caller: str) -> float:
        """Take one request of the caller; return 0, or after how many seconds one is left: then none is taken."""
        now = self._clock()
        left, at = self._left.get(caller) or (self._burst, now)
        left = min(self._burst, left + (now - at) * self._per_s)
        if left < 1.0:
            return (1.0 - left) / self._per_s
        self._left.pop(caller, None)  # the newest are the last
        if len(self._left) >= MOST:
            self._forget(now)
        self._left[caller] = left - 1.0, now
        return 0.0

    def _forget(self, now: float) -> None:
        full_s = self._burst / self._per_s
        self._left = {caller: one for caller, one in self._left.items() if now - one[1] < full_s}
        while len(self._left) >= MOST:
            del self._left[next(iter(self._left))]
