"""Who waits for which order's end."""

import asyncio
from collections import deque
from collections.abc import Sequence

from contracts import Fact, OrderCanceled, OrderConfirmed

End = OrderConfirmed | OrderCanceled
Watched = asyncio.Future[End | None]
"""An order's first end; None: it has not come in time."""


class Ends:
    def __init__(self, closing: asyncio.Event, wait_s: float) -> None:
        """Nobody waits for longer than `wait_s`, nor once the process is `closing`."""
        self._closing = closing
        self._wait_s = wait_s
        self._waiting: dict[str, list[Watched]] = {}
        self._due: deque[tuple[float, Watched]] = deque()
        """By the loop's time. All wait for the same time, so who came first is due first, and one timer is enough."""
        self._timed = False

    def recorded(self, facts: Sequence[Fact]) -> None:
        """Wake those who wait for the orders that these facts end."""
        for fact in facts:
            if isinstance(fact, OrderConfirmed | OrderCanceled):
                for watched in self._waiting.get(fact.order_id, ()):
                    _answer(watched, fact)

    def watch(self, order_id: str) -> Watched:
        """The order's first end from now on, until `forget`. Begin before it is placed, so that no end is missed."""
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
        """When the process is to end, nobody waits any longer."""
        await self._closing.wait()
        for waiting in self._waiting.values():
            for watched in waiting:
                _answer(watched, None)


def _answer(watched: Watched, end: End | None) -> None:
    if not watched.done():
        watched.set_result(end)
