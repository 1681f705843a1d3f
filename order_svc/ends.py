"""The requests that wait for an order to end."""

import asyncio
from collections import deque
from collections.abc import Sequence

from contracts import Fact, OrderCanceled, OrderConfirmed

End = OrderConfirmed | OrderCanceled
Watched = asyncio.Future[End | None]
"""An order's first end, or None if it did not come in time."""


class Ends:
    def __init__(self, closing: asyncio.Event, wait_s: float) -> None:
        """A request waits for at most `wait_s` seconds, and no longer once the process is `closing`."""
        self._closing = closing
        self._wait_s = wait_s
        self._waiting: dict[str, list[Watched]] = {}
        self._due: deque[tuple[float, Watched]] = deque()
        """The times at which requests stop waiting, by the loop's clock. All wait equally long, so the first to come is
        the first due, and one timer is enough.
        """
        self._timed = False

    def recorded(self, facts: Sequence[Fact]) -> None:
        """Wake the requests that wait for the orders that these facts end."""
        for fact in facts:
            if isinstance(fact, OrderConfirmed | OrderCanceled):
                for watched in self._waiting.get(fact.order_id, ()):
                    _answer(watched, fact)

    def watch(self, order_id: str) -> Watched:
        """The order's first end from now on, until `forget`. Call it before the order is placed, to miss no end."""
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
        """End a `watch`; every `watch` needs one."""
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
        """Wake all waiting requests when the process is closing."""
        await self._closing.wait()
        for waiting in self._waiting.values():
            for watched in waiting:
                _answer(watched, None)


def _answer(watched: Watched, end: End | None) -> None:
    if not watched.done():
        watched.set_result(end)
