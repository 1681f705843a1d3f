"""Feeds the logs and the stream to the checker in the order of time, so that few orders are in flight at any time."""

import heapq
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

from infra.store.records import Notification
from ops.invariants import Checker
from ops.reading import Read

AT: Final = b'"at":"'
NEAR: Final = 120  # bytes: `at` follows the type
INSTANT: Final = 26  # bytes, to the microsecond

ProgressCallback = Callable[[int], None]
"""Called again and again with the number of facts and messages fed since the last call."""


def when(body: bytes) -> bytes:
    """Return the bytes of a fact's `at` (UTC, RFC 3339) in its JSON. They compare as instants do, roughly.

    A body without `at` gives any bytes: the result only decides which source is fed next.
    """
    start = body.find(AT, 0, NEAR) + len(AT)
    return body[start : start + INSTANT]


class _Source:
    """Reads one log, or the stream, chunk by chunk and passes its items to `feed`, in their order."""

    def __init__(self, chunks: AsyncGenerator[list[Any]], feed: Callable[[Any], None]) -> None:
        self._chunks = chunks
        self._feed = feed
        self._chunk: list[Any] = []
        self._index = 0

    async def next(self) -> bytes | None:
        """Return the next item's instant (see `when`), without feeding it; None: there are no more items.

        The instant is that of the decision, not of the recording. If the chunk is used up, read the next one that is
        not empty. Raises the errors of `chunks`.
        """
        while self._index >= len(self._chunk):
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return None
            self._chunk, self._index = chunk, 0
        return when(self._body(self._chunk[self._index]))

    @staticmethod
    def _body(item: Notification | Read) -> bytes:
        return item.state if isinstance(item, Notification) else item.body

    def run(self, until: bytes | None) -> int:
        """Feed the chunk's next item, and those after it up to the first one with an instant later than `until`.

        `until` None: feed the rest of the chunk. Call it after `next` has returned an instant. Returns how many items
        were fed.
        """
        began = index = self._index
        chunk, feed, body = self._chunk, self._feed, self._body
        while index < len(chunk) and (index == began or until is None or when(body(chunk[index])) <= until):
            feed(chunk[index])
            index += 1
        self._index = index
        return index - began


async def feed(
    checker: Checker,
    logs: Mapping[str, AsyncGenerator[list[Notification]]],
    messages: AsyncGenerator[list[Read]] | None,
    progress: ProgressCallback,
) -> None:
    """Read all logs (by service) and messages (None: no stream) to their ends, and feed them to the checker.

    Each source is fed in its own order. Among the sources, the one whose next item is the oldest is next. Raises the
    errors of the generators and of the checker's memory.
    """
    sources = [_Source(chunks, _log_feeder(checker, name)) for name, chunks in logs.items()]
    if messages is not None:
        sources.append(_Source(messages, _message_feeder(checker)))
    heap = [(at, number) for number, source in enumerate(sources) if (at := await source.next()) is not None]
    heapq.heapify(heap)
    while heap:
        _, number = heap[0]
        others = min(heap[1:3], default=None)
        progress(sources[number].run(None if others is None else others[0]))
        at = await sources[number].next()
        if at is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (at, number))


def _log_feeder(checker: Checker, service: str) -> Callable[[Notification], None]:
    take = checker.log

    def feed_record(record: Notification) -> None:
        position, stream, version, _, body = record
        take(service, position, stream, version, body)

    return feed_record


def _message_feeder(checker: Checker) -> Callable[[Read], None]:
    take = checker.message

    def feed_message(message: Read) -> None:
        take(message.sequence, message.fact_id, message.body)

    return feed_message
