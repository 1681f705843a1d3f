"""Who waits for which order's end."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from contracts import Fact, OrderCanceled, OrderConfirmed

End = OrderConfirmed | OrderCanceled


class Ends:
    def __init__(self, closing: asyncio.Event) -> None:
        self._closing = closing
        self._waiting: dict[str, set[asyncio.Future[End | None]]] = {}

    def recorded(self, facts: Sequence[Fact]) -> None:
        """Wake those who wait for the orders that these facts end."""
        for fact in facts:
            if isinstance(fact, OrderConfirmed | OrderCanceled):
                for future in self._waiting.get(fact.order_id, ()):
                    if not future.done():
                        future.set_result(fact)

    @contextmanager
    def watch(self, order_id: str) -> Iterator[asyncio.Future[End | None]]:
        """A future of the order's first end from now on; begin before the order is placed, so that none is missed."""
        future: asyncio.Future[End | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(order_id, set()).add(future)
        if self._closing.is_set():
            future.set_result(None)
        try:
            yield future
        finally:
            others = self._waiting[order_id]
            others.discard(future)
            if not others:
                del self._waiting[order_id]

    async def run(self) -> None:
        """When the process is to end, nobody waits any longer."""
        await self._closing.wait()
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_result(None)
