"""The event store's port over the library's synchronous recorders."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    StoredEvent,
)

from infra.store.records import Notification, Record, StreamHistory

T = TypeVar("T")


class RecorderStore:
    """The port over the library's synchronous recorders, on one thread of their own."""

    has_moved = False
    place = "memory"

    def __init__(self, events: ApplicationRecorder, snapshots: AggregateRecorder) -> None:
        self._events = events
        self._snapshots = snapshots
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorder")

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def insert_events(self, records: Sequence[Record]) -> None:
        await self._run(lambda: self._events.insert_events([StoredEvent(*record) for record in records]))

    async def select_streams(
        self, streams: Collection[str], snapshot_topics: Collection[str]
    ) -> dict[str, StreamHistory]:
        return await self._run(lambda: self._select_streams(streams, snapshot_topics))

    def _select_streams(self, streams: Collection[str], snapshot_topics: Collection[str]) -> dict[str, StreamHistory]:
        found: dict[str, StreamHistory] = {}
        for stream in streams:
            snapshot = next(
                (
                    _record(stored)
                    for stored in self._snapshots.select_events(stream, desc=True)
                    if stored.topic in snapshot_topics
                ),
                None,
            )
            after = snapshot.originator_version if snapshot else 0
            records = [_record(stored) for stored in self._events.select_events(stream, gt=after)]
            if snapshot or records:
                found[stream] = StreamHistory(snapshot, records)
        return found

    async def select_notifications(self, after: int, limit: int, topics: Collection[str] = ()) -> list[Notification]:
        found = await self._run(
            lambda: self._events.select_notifications(after, limit, topics=list(topics), inclusive_of_start=False)
        )
        return [Notification(stored.id, *_record(stored)) for stored in found]

    async def max_notification_id(self) -> int:
        return await self._run(self._events.max_notification_id) or 0

    async def insert_snapshots(self, snapshots: Sequence[Record]) -> None:
        await self._run(lambda: self._snapshots.insert_events([StoredEvent(*snapshot) for snapshot in snapshots]))

    async def check(self) -> None:
        await self.max_notification_id()

    def close(self) -> None:
        """Wait for the thread to finish its current call."""
        self._thread.shutdown()


def _record(stored: StoredEvent) -> Record:
    return Record(str(stored.originator_id), stored.originator_version, stored.topic, stored.state)
