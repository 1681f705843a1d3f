"""How many requests begin in one turn of the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

REQUESTS_A_TURN: Final = 32  # requests that begin in one turn of the event loop, about


class RequestPacer:
    """Begins about `a_turn` requests in one turn of the event loop; the others wait for the next turns, in order.

    Broker input and commits run between two turns. Otherwise a burst of requests that are each answered quickly (e.g.
    503) monopolises the loop, and accepted work makes no progress.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, a_turn: int = REQUESTS_A_TURN) -> None:
        self._loop = loop
        self._a_turn = a_turn
        self._left = a_turn
        self._waiting: deque[Callable[[], None]] = deque()
        self._ticking = False

    def begin(self, start: Callable[[], None]) -> None:
        if not self._ticking:
            self._ticking = True
            self._loop.call_soon(self._next_turn)
        if self._left and not self._waiting:
            self._left -= 1
            start()
        else:
            self._waiting.append(start)

    def _next_turn(self) -> None:
        now = min(self._a_turn, len(self._waiting))
        self._left = self._a_turn - now
        self._ticking = now > 0
        if self._ticking:
            self._loop.call_soon(self._next_turn)
        for _ in range(now):
            self._waiting.popleft()()
