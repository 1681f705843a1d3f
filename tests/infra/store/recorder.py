"""Our asynchronous store as a synchronous recorder, so that the library's own test suite can be run against it."""

import asyncio
import io
import threading
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    Notification,
    StoredEvent,
    Subscription,
)

from infra.store.records import Record
from infra.store.sqlite import SQLiteStore

T = TypeVar("T")


class SyncAggregateRecorder(AggregateRecorder):
    """The facade: every call waits for an event loop in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self._appending = asyncio.Lock()
        self._store = self._wait(self._stack.enter_async_context(SQLiteStore.open(path)))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._wait(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        self._wait(self._append(stored_events))
        return None

    async def _append(self, stored_events: Sequence[StoredEvent]) -> list[int]:
        records = [Record(str(e.originator_id), e.originator_version, e.topic, e.state) for e in stored_events]
        async with self._appending:
            await self._store.insert_events(records)
            last = await self._store.max_notification_id()
        return list(range(last - len(records) + 1, last + 1))

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        found = [
            StoredEvent(stored.originator_id, stored.originator_version, stored.topic, stored.state)
            for stored in self._wait(self._store.select_stream(str(originator_id)))
            if (gt is None or stored.originator_version > gt) and (lte is None or stored.originator_version <= lte)
        ]
        return (found[::-1] if desc else found)[:limit]


class SyncApplicationRecorder(SyncAggregateRecorder, ApplicationRecorder):
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        return self._wait(self._append(stored_events))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = 0 if start is None else start - 1 if inclusive_of_start else start
        found = self._wait(self._store.select_notifications(after, limit, topics))
        return [
            Notification(
                id=stored.position,
                originator_id=stored.originator_id,
                originator_version=stored.originator_version,
                topic=stored.topic,
                state=stored.state,
            )
            for stored in found
            if stop is None or stored.position <= stop
        ]

    def max_notification_id(self) -> int | None:
        return self._wait(self._store.max_notification_id()) or None

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:  # not supported, as in the library's own SQLite recorder
        raise io.UnsupportedOperation("subscribe")
