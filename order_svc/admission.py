"""Admission control: rejects new orders while too many are in flight, or more than the services can complete in time.

An in-flight order is accepted and has not ended. The order must end before its deadline, and a client that waits for
the end takes up a connection and memory. When orders arrive faster than the steps complete them, a rejection at once
serves a client better than an order that misses its deadline.
"""

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from contracts import Fact, OrderCanceled, OrderConfirmed, OrderCreatedPending

SOON_AT_LEAST_S: Final = 1.0
"""The least `soon_s`, in seconds. Orders end in batches, and measuring a rate takes several of them."""
ALWAYS_ADMITTED: Final = 64
"""Up to this many orders in flight or waiting, none is rejected for slow completion: a few stuck orders block no
other."""
MIN_OBSERVED_SHARE: Final = 0.1
"""The fraction of `soon_s` for which completions are observed before their rate limits admission."""

TOO_MANY: Final = "too many orders are in flight"
OVERLOADED: Final = "overloaded: the backlog exceeds what can complete in time"


class AdmissionControl:
    """Decides whether a new order is admitted, from the number in flight and the completion rate (Little's law).

    An order is admitted while fewer than `most` orders are in flight or waiting, and no more than complete within
    `soon_s` seconds at the present rate. Up to ALWAYS_ADMITTED orders, or while too little was observed, only `most`
    limits.

    The completion rate is that of the last `soon_s` seconds. Orders canceled by their deadline do not count as
    completions: they end because nothing completed them. The rate is forgotten after `soon_s` with at most
    ALWAYS_ADMITTED orders in flight, because that rate tells nothing about the next burst.

    While the broker stalls nothing can complete, which says nothing about the services. So that time does not count,
    and the orders that came meanwhile have as much longer to complete.

    Only orders that this process accepted are counted. Orders that were in flight at its start are about to end.
    """

    def __init__(
        self,
        most: int,
        soon_s: float,
        clock: Callable[[], float] = monotonic,
        stalled_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`most` is a number of orders. `soon_s` and `clock` are in seconds.

        `stalled_s` returns for how many seconds in all the broker has stalled since the start.
        """
        self._most = most
        self._soon_s = soon_s
        self._clock = clock
        self._stalled_s = stalled_s
        self._stalled = 0.0
        """What `stalled_s` returned last."""
        self._stalls: deque[tuple[float, float]] = deque()
        """Pairs (time by `_now`, seconds of a stall that were counted then) of the last `soon_s` seconds."""
        self._in_flight: set[str] = set()
        self._busy_since: float | None = None
        """The start of the observed period: the first time since the rate was forgotten at which more than
        ALWAYS_ADMITTED orders were in flight. None until then."""
        self._quiet_since = 0.0
        """When the number in flight last fell to ALWAYS_ADMITTED or less. Not used while more orders are in flight."""
        self._completions: deque[tuple[float, int]] = deque()
        """Pairs (time by `_now`, orders completed then) of the last `soon_s` seconds, none before `_busy_since`."""
        self._completed = 0
        """How many orders `_completions` has in all."""

    def recorded(self, facts: Sequence[Fact]) -> None:
        """Count the orders that these facts accept and end. Call it once after each commit, with the commit's facts."""
        now, was_quiet, completed = self._now(), len(self._in_flight) <= ALWAYS_ADMITTED, 0
        self._count_stall(now)
        self._forget_old_rate(now)
        for fact in facts:
            if isinstance(fact, OrderCreatedPending):
                self._in_flight.add(fact.order_id)
            elif isinstance(fact, OrderConfirmed | OrderCanceled) and fact.order_id in self._in_flight:
                self._in_flight.remove(fact.order_id)
                completed += not (isinstance(fact, OrderCanceled) and fact.reason == "deadline-exceeded")
        if len(self._in_flight) <= ALWAYS_ADMITTED:
            self._quiet_since = self._quiet_since if was_quiet else now
        elif self._busy_since is None:
            self._busy_since = now
        if completed and self._busy_since is not None:
            self._completions.append((now, completed))
            self._completed += completed
            self._prune(now)

    def _now(self) -> float:
        """Return the time by the clock, without that in which the broker stalled."""
        return self._clock() - self._stalled_s()

    def _count_stall(self, now: float) -> None:
        stalled = self._stalled_s()
        if stalled > self._stalled:
            self._stalls.append((now, stalled - self._stalled))
            self._stalled = stalled
        while self._stalls and self._stalls[0][0] < now - self._soon_s:
            self._stalls.popleft()

    def _forget_old_rate(self, now: float) -> None:
        """Forget the rate if at most ALWAYS_ADMITTED orders have been in flight for `soon_s`.

        Call this before each use of `_busy_since`.
        """
        if len(self._in_flight) <= ALWAYS_ADMITTED and now - self._quiet_since >= self._soon_s:
            self._busy_since = None
            self._completions.clear()
            self._completed = 0

    def _prune(self, now: float) -> None:
        while self._completions and self._completions[0][0] < now - self._soon_s:
            self._completed -= self._completions.popleft()[1]

    def rejection(self, order_id: str, waiting: int) -> str | None:
        """Return why this order is rejected, or None to admit it. The order counts as in flight only after `recorded`.

        `waiting`: how many requests and deliveries are in the writer's queue; each counts as an order. An order that is
        already in flight is always admitted, so that a client can repeat its request.
        """
        if order_id in self._in_flight:
            return None
        ahead = len(self._in_flight) + waiting
        if ahead >= self._most:
            return TOO_MANY
        return OVERLOADED if ahead > ALWAYS_ADMITTED and ahead > self._completing_soon() else None

    def _completing_soon(self) -> float:
        """Return how many orders complete in `soon_s` at the observed rate; `most` while too little was observed.

        A stall of the broker in the last `soon_s` makes `soon_s` as much longer.
        """
        now = self._now()
        self._forget_old_rate(now)
        if self._busy_since is None:
            return self._most
        observed_s = min(self._soon_s, now - self._busy_since)
        if observed_s < MIN_OBSERVED_SHARE * self._soon_s:
            return self._most
        self._prune(now)
        self._count_stall(now)
        return self._completed * (self._soon_s + sum(seconds for _, seconds in self._stalls)) / observed_s
