"""The event store a service needs: the `eventsourcing` recorder contract, asynchronous and in batches.

One call, one thread hop, one statement: a hop per batch, never per event.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from eventsourcing.persistence import (
    IntegrityError,
    PersistenceError,
)

from infra.store.records import History, Notification, Record

Conflict = IntegrityError
"""Another writer recorded a version first; nothing of the batch was recorded."""

StoreError = PersistenceError
"""The store did not do what it was asked. An append may or may not have been recorded."""


class EventStore(Protocol):
    """One service's log. Every method raises StoreError when the store fails."""

    async def insert_events(self, records: Sequence[Record]) -> None:
        """Record all or none, durably, in the given order. Raises Conflict."""

    async def select_streams(self, streams: Collection[str], snapshot_topics: Collection[str]) -> dict[str, History]:
        """The history of each of these streams that has one, from its newest snapshot with one of these topics."""

    async def select_notifications(self, after: int, limit: int, topics: Collection[str] = ()) -> list[Notification]:
        """Up to `limit` records past position `after` in log order; of `topics` only, if any are given."""

    async def max_notification_id(self) -> int:
        """The last position; 0 in an empty log."""

    async def insert_snapshots(self, snapshots: Sequence[Record]) -> None:
        """Keep these snapshots, and none older of their streams."""

    async def check(self) -> None:
        """Returns if the store can record right now."""
