"""Who waits for which order's end."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from contracts import Fact, OrderCanceled, OrderConfirmed

End = OrderConfirmed | OrderCanceled


class Ends:
    def __init__(self, closing: asyncio.Event, wait_s: float) -> None:
        """Nobody waits for longer than `wait_s`, nor once the process is `closing`."""
        self._closing = closing
        self._wait_s = wait_s
        self._waiting: dict[str, set[asyncio.Future[End | None]]] = {}

    def recorded(self, facts: Sequence[Fact]) -> None:
        """Wake those who wait for the orders that these facts end."""
        for fact in facts:
            if isinstance(fact, OrderConfirmed | OrderCanceled):
                for future in self._waiting.get(fact.order_id, ()):
                    _answer(future, fact)

    @contextmanager
    def watch(self, order_id: str) -> Iterator[asyncio.Future[End | None]]:
        """A future of the order's first end from now on; None: it has not come in time.

        Begin before the order is placed, so that no end is missed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[End | None] = loop.create_future()
        self._waiting.setdefault(order_id, set()).add(future)
        timer = loop.call_later(0 if self._closing.is_set() else self._wait_s, _answer, future, None)
        try:
            yield future
        finally:
            timer.cancel()
            others = self._waiting[order_id]
            others.discard(future)
            if not others:
                del self._waiting[order_id]

    async def run(self) -> None:
        """When the process is to end, nobody waits any longer."""
        await self._closing.wait()
        for futures in self._waiting.values():
            for future in futures:
                _answer(future, None)


def _answer(future: asyncio.Future[End | None], end: End | None) -> None:
    if not future.done():
        future.set_result(end)
