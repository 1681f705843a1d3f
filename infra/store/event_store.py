"""The interface of a service's event store: as an `eventsourcing` recorder, but asynchronous and in batches.

A call takes or returns many records, because it costs a hop to another thread and a statement.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from infra.store.records import Notification, Record, StreamHistory


class EventStore(Protocol):
    """One service's log, and the snapshots of its streams. Every method raises StoreError when the store fails."""

    @property
    def has_moved(self) -> bool:
        """Whether opening found facts that older code recorded in another stream than the one they belong to today.

        False, too, if opening did not look for them.
        """

    @property
    def place(self) -> str:
        """Where the log is, such as the path of its file."""

    async def insert_events(self, records: Sequence[Record]) -> None:
        """Append all of these records to the log, in this order and durably, or none of them.

        Raises Conflict, and nothing was recorded, if a stream has one of the versions already. After any other error,
        or a cancellation, only the log shows whether they were recorded.
        """

    async def select_streams(
        self, streams: Collection[str], snapshot_topics: Collection[str]
    ) -> dict[str, StreamHistory]:
        """Return the histories by stream: the newest snapshot of one of `snapshot_topics`, and the records after it.

        Without such a snapshot the history has all records of the stream. Streams without a history are left out.
        """

    async def select_notifications(self, after: int, limit: int, topics: Collection[str] = ()) -> list[Notification]:
        """Return the first `limit` records after position `after`, in log order; with `topics`, of these topics only.

        Records that another process made may be missing until the next `max_notification_id`.
        """

    async def max_notification_id(self) -> int:
        """Return the position of the log's last record; 0 if the log is empty.

        From then on `select_notifications` finds every record up to there, also those of other processes.
        """

    async def insert_snapshots(self, snapshots: Sequence[Record]) -> None:
        """Store these snapshots, and delete the older ones of their streams. May be repeated."""

    async def check(self) -> None:
        """Make a small write, not to the log, to see whether the store can record now. Raises StoreError if not."""
