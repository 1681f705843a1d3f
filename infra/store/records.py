"""The rows of an event store: records, their positions in the log, and a stream's history."""

from typing import NamedTuple


class Record(NamedTuple):
    """One row of the event table, named as the `eventsourcing` library names its columns. Versions start at 1."""

    originator_id: str
    originator_version: int
    topic: str
    state: bytes


class Notification(NamedTuple):
    """A record at its `position` in the log; for a view of the stream, at its sequence in EVENTS.

    Positions grow. A store may leave gaps; the embedded one leaves none.
    """

    position: int
    originator_id: str
    originator_version: int
    topic: str
    state: bytes


class StreamHistory(NamedTuple):
    """The source of a stream's state: its newest usable snapshot, if any, and the records after it in order."""

    snapshot: Record | None
    records: list[Record]
