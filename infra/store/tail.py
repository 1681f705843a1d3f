"""Keeps the newest records of a log in memory: the relay and the read models get them without reading the file."""

from collections.abc import Collection, Sequence
from typing import Final

from infra.store.records import Notification, Record

TAIL_RECORDS: Final = 4_096


class Tail:
    """The last records that this process committed, without a gap in their positions.

    The tail holds at least `at_least` records once that many were committed since it was empty, and at most twice as
    many plus one append. An empty tail is always correct: the log is then read from the file.
    """

    def __init__(self, at_least: int = TAIL_RECORDS) -> None:
        self._at_least = at_least
        self._records: list[Notification] = []

    def clear(self) -> None:
        self._records = []

    def append(self, records: Sequence[Record], first: int) -> None:
        """Add the records just committed; their positions begin at `first`.

        If the tail does not end at `first - 1`, its older records are dropped: the gap may hide records.
        """
        if self._records and self._records[-1].position + 1 != first:
            self._records = []  # another process recorded in between
        elif len(self._records) > 2 * self._at_least:
            del self._records[: -self._at_least]
        self._records += [Notification(position, *record) for position, record in enumerate(records, first)]

    def read(self, after: int, limit: int, topics: Collection[str]) -> list[Notification] | None:
        """Return the result of `select_notifications`, or None if the file has to be read for it.

        The file has to be read if the tail is empty, or begins later than at position `after + 1`.
        """
        if not self._records or self._records[0].position > after + 1:
            return None
        newer = self._records[after + 1 - self._records[0].position :]
        return [record for record in newer if not topics or record.topic in topics][:limit]

    def clear_if_behind(self, last: int) -> None:
        """Empty the tail if it ends before `last`, the end of the log: then another process recorded the rest."""
        if self._records and self._records[-1].position < last:
            self._records = []
