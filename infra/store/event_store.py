"""The event store a service needs: the `eventsourcing` recorder contract, asynchronous and in batches.

One call is one thread hop and one statement: the cost is per batch, never per event.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from infra.store.records import Notification, Record, StreamHistory


class EventStore(Protocol):
    """One service's log. Every method raises StoreError when the store fails."""

    async def insert_events(self, records: Sequence[Record]) -> None:
        """Record all of them in this order, durably, or none. Raises Conflict."""

    async def select_streams(
        self, streams: Collection[str], snapshot_topics: Collection[str]
    ) -> dict[str, StreamHistory]:
        """The history of each of these streams, from its newest snapshot of these topics; without the empty streams."""

    async def select_notifications(self, after: int, limit: int, topics: Collection[str] = ()) -> list[Notification]:
        """Up to `limit` records behind position `after`, in log order; only records of `topics`, if any are given."""

    async def max_notification_id(self) -> int:
        """The last position; 0 in an empty log."""

    async def insert_snapshots(self, snapshots: Sequence[Record]) -> None:
        """Store these snapshots in place of older ones of their streams."""

    async def check(self) -> None:
        """Raise StoreError unless the store can record at this moment."""
