"""The rows of an event store: records, their positions in the log, and a stream's history."""

from collections.abc import Sequence
from typing import NamedTuple


class Record(NamedTuple):
    """A stored fact or snapshot; its fields have the names of the `eventsourcing` library's columns.

    `originator_id` is the stream, and `originator_version` the version in it, from 1. `topic` is the fact's name, or
    the snapshot's topic. `state` is the JSON of the fact, or of the snapshot's state.
    """

    originator_id: str
    originator_version: int
    topic: str
    state: bytes


class Notification(NamedTuple):
    """A record and its `position` in the log; for a view of EVENTS, the message's sequence. The others: see Record.

    Positions rise from 1 in log order. A store may leave gaps between them; SQLiteStore leaves none.
    """

    position: int
    originator_id: str
    originator_version: int
    topic: str
    state: bytes


class StreamHistory(NamedTuple):
    """What a stream's state is folded from: its newest usable snapshot, and the records after it by version.

    Without a snapshot (None) these are all records of the stream. `earlier`: facts of this stream that older code
    recorded in other streams, in log order. Without a snapshot they are folded first; a snapshot has them already.
    """

    snapshot: Record | None
    records: list[Record]
    earlier: Sequence[Record] = ()
