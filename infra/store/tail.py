"""The newest records of a log, in memory: the relay and the read models follow the writer without a query."""

from collections.abc import Collection, Sequence
from typing import Final

from infra.store.records import Notification, Record

TAIL_RECORDS: Final = 4_096


class Tail:
    """The last records that this process committed, without a gap in their positions.

    It holds `at_least` records once that many were committed, and at most twice as many plus a batch. An empty tail is
    always correct: the log is then read from the file.
    """

    def __init__(self, at_least: int = TAIL_RECORDS) -> None:
        self._at_least = at_least
        self._records: list[Notification] = []

    def clear(self) -> None:
        self._records = []

    def append(self, records: Sequence[Record], first: int) -> None:
        """Add the records just committed; their positions begin at `first`."""
        if self._records and self._records[-1].position + 1 != first:
            self._records = []  # another process recorded in between
        elif len(self._records) > 2 * self._at_least:
            del self._records[: -self._at_least]
        self._records += [Notification(position, *record) for position, record in enumerate(records, first)]

    def read(self, after: int, limit: int, topics: Collection[str]) -> list[Notification] | None:
        """The records that `select_notifications` would return; None if the tail begins later than those."""
        if not self._records or self._records[0].position > after + 1:
            return None
        newer = self._records[after + 1 - self._records[0].position :]
        return [record for record in newer if not topics or record.topic in topics][:limit]

    def clear_if_behind(self, last: int) -> None:
        """Empty the tail if the log, which ends at `last`, has records that this process did not commit."""
        if self._records and self._records[-1].position < last:
            self._records = []
