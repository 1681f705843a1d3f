"""An event store that counts and times the appends of a writer; all else goes to the store itself."""

from collections.abc import Sequence
from time import perf_counter

from infra.metrics import Counter, Histogram
from infra.store.errors import Conflict
from infra.store.event_store import EventStore
from infra.store.records import Record


class MeasuredStore:
    """Passes all calls to the EventStore `store`; measures appends in `commits`, counts Conflicts in `conflicts`."""

    def __init__(self, store: EventStore, commits: Histogram, conflicts: Counter) -> None:
        """`commits` gets the seconds of each append that succeeds. Other errors than Conflict are not counted."""
        self._store = store
        self._commits = commits
        self._conflicts = conflicts
        self.has_moved = store.has_moved
        self.place = store.place
        self.select_streams = store.select_streams
        self.select_notifications = store.select_notifications
        self.max_notification_id = store.max_notification_id
        self.insert_snapshots = store.insert_snapshots
        self.check = store.check

    async def insert_events(self, records: Sequence[Record]) -> None:
        began = perf_counter()
        try:
            await self._store.insert_events(records)
        except Conflict:
            self._conflicts.value += 1
            raise
        self._commits.observe(perf_counter() - began)
