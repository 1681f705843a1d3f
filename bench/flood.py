"""A flood: orders arrive at a rate, whatever happens to earlier ones, from more customers than there is room for."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import Final, NamedTuple

from bench.client import PATIENCE_S, Answer, Broken, Connection, connect

TICK_S: Final = 0.001


class Came(NamedTuple):
    """The result of one order, sent `at_s` seconds after the beginning and answered `after_s` seconds later."""

    at_s: float
    after_s: float
    status: int


class Flooded(NamedTuple):
    """`turned_away`: orders that found no free connection. `seconds`: until the last one was sent.

    `began`: in seconds since 1970.
    """

    came: list[Came]
    turned_away: int
    seconds: float
    began: float


class Flood:
    def __init__(self, url: str, requests: Iterator[bytes], connections: int) -> None:
        self._url = url
        self._requests = requests
        self._connections = connections
        self._free: deque[Connection] = deque()
        self._came: list[Came] = []
        self._open = 0
        self._broken: Broken | None = None
        self._closing = False

    async def run(self, rate: float | None, seconds: float) -> Flooded:
        """Send `rate` orders a second; None: one as soon as a connection is free. Raises Broken."""
        connections = await connect(self._url, self, self._connections)
        self._free.extend(connections)
        try:
            began, self._began = time.time(), perf_counter()
            turned_away = await self._send_all(rate, seconds)
            took = perf_counter() - self._began
            await self._all_answered()
        finally:
            self._closing = True
            for connection in connections:
                connection.close()
        return Flooded(self._came, turned_away, took, began)

    async def _send_all(self, rate: float | None, seconds: float) -> int:
        due, turned_away = 0, 0
        while (now := perf_counter() - self._began) < seconds:
            if self._broken:
                raise self._broken
            come = len(self._free) if rate is None else int(now * rate) - due
            due += come
            sent = min(come, len(self._free))
            turned_away += come - sent
            for _ in range(sent):
                self._open += 1
                self._free.popleft().send(0, next(self._requests), perf_counter())
            await asyncio.sleep(TICK_S)
        return turned_away

    async def _all_answered(self) -> None:
        until = perf_counter() + PATIENCE_S
        while self._open:
            if self._broken:
                raise self._broken
            if perf_counter() > until:
                raise Broken(f"no answer for {PATIENCE_S:.0f} s to {self._open:,} orders")
            await asyncio.sleep(TICK_S)

    def answered(self, connection: Connection, _: int, answer: Answer) -> None:
        self._open -= 1
        self._came.append(Came(perf_counter() - self._began - answer.after_s, answer.after_s, answer.status))
        self._free.append(connection)

    def fail(self, error: Broken) -> None:
        if not self._closing and self._broken is None:
            self._broken = error
