"""Finds whether an order was accepted before: a repeated request gets its answer although new orders are refused."""

import asyncio

from infra.core.errors import StoreUnavailable
from infra.store.errors import StoreError
from infra.store.event_store import EventStore


class Repeats:
    """Reads which orders the log has. Questions that come while the store is read share the next read.

    Without that, each refused request would cost a read, just when most requests come. The state cache is left alone:
    an order that is refused must not evict one that is in flight.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def accepted(self, stream: str) -> bool:
        """Return whether the log has a fact of this order's stream, given by its name such as `order-7`.

        Raises StoreUnavailable if the store cannot be read.
        """
        answer = self._asked.get(stream)
        if answer is None:
            answer = self._asked[stream] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(answer)  # a request that is canceled must not cancel the others' answer

    async def _read(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                found = await self._store.select_streams(list(asked), ())
            except StoreError as error:
                for answer in asked.values():
                    answer.set_exception(StoreUnavailable(str(error)))
            else:
                for stream, answer in asked.items():
                    answer.set_result(stream in found)
