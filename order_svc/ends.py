"""Lets requests wait for an order's end, at most for a set time and until the process closes."""

import asyncio
from collections import deque
from collections.abc import Sequence

from contracts import Fact, OrderCanceled, OrderConfirmed

End = OrderConfirmed | OrderCanceled
Watched = asyncio.Future[End | None]
"""A future of the first end recorded while its order is watched; its result is None if none came in time."""


class Ends:
    def __init__(self, closing: asyncio.Event, wait_s: float) -> None:
        """Let each request wait for at most `wait_s` seconds, and no longer once the event `closing` is set."""
        self._closing = closing
        self._wait_s = wait_s
        self._waiting: dict[str, list[Watched]] = {}
        self._due: deque[tuple[float, Watched]] = deque()
        """The times, by the event loop's clock, at which requests stop waiting. All requests wait equally long, so the
        times are sorted, and one timer is enough.
        """
        self._timed = False

    def recorded(self, facts: Sequence[Fact]) -> None:
        """Wake the requests that wait for the orders that these facts end. Call it after each commit."""
        for fact in facts:
            if isinstance(fact, OrderConfirmed | OrderCanceled):
                for watched in self._waiting.get(fact.order_id, ()):
                    _answer(watched, fact)

    def watch(self, order_id: str) -> Watched:
        """Start watching an order, and return the future of its first end from now on. Later, call `forget` once.

        Watch before the order is placed: ends recorded earlier are missed. The result is None after `wait_s` seconds,
        or once the process is closing; if it is closing already, at once.
        """
        loop = asyncio.get_running_loop()
        watched: Watched = loop.create_future()
        self._waiting.setdefault(order_id, []).append(watched)
        if self._closing.is_set():
            watched.set_result(None)
        else:
            self._due.append((loop.time() + self._wait_s, watched))
            self._set_timer()
        return watched

    def forget(self, order_id: str, watched: Watched) -> None:
        """End a `watch`: its future gets None if it has no result yet. Call it exactly once for every `watch`."""
        others = self._waiting[order_id]
        others.remove(watched)
        if not others:
            del self._waiting[order_id]
        _answer(watched, None)
        while self._due and self._due[0][1].done():
            self._due.popleft()

    def _set_timer(self) -> None:
        if self._due and not self._timed:
            self._timed = True
            asyncio.get_running_loop().call_at(self._due[0][0], self._time_is_up)

    def _time_is_up(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._due and self._due[0][0] <= now:
            _answer(self._due.popleft()[1], None)
        self._timed = False
        self._set_timer()

    async def run(self) -> None:
        """Wait until the process is closing; then wake all waiting requests with None, and return."""
        await self._closing.wait()
        for waiting in self._waiting.values():
            for watched in waiting:
                _answer(watched, None)


def _answer(watched: Watched, end: End | None) -> None:
    if not watched.done():
        watched.set_result(end)
