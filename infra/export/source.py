"""Reads a service's log for an export, from a position on, and measures the export's lag."""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from contracts.newer import OfNewerCode
from contracts.wire import VOCABULARY, fact_id
from infra.export.errors import AnotherLog, NewerRecord, Unexportable
from infra.export.rows import START, Dataset, ExportPosition, Row
from infra.store.records import Notification
from infra.store.vocabulary import unknown

CHUNK: Final = 2_000  # records read at once: a read transaction of milliseconds, which delays no checkpoint


class Log(Protocol):
    """The part of the EventStore that an export needs, with the same meaning. Both methods raise StoreError."""

    async def select_notifications(
        self, after: int, limit: int, topics: Collection[str] = ()
    ) -> list[Notification]: ...
    async def max_notification_id(self) -> int: ...


OpenLog = Callable[[], AbstractAsyncContextManager[Log]]
"""Returns a context manager that opens the log for reading. Entering raises StoreError, also if there is no log."""


def id_of(record: Notification) -> str:
    """Return the id of the record's fact, `<stream>@<version>`."""
    return fact_id(record.originator_id, record.originator_version)


def to_row(dataset: Dataset, record: Notification) -> Row:
    """Make the record's row. Raises Unexportable if `dataset.row` cannot; NewerRecord if newer code is why."""
    try:
        row: Row = dataset.row(record)
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        why = f"{id_of(record)} ({record.topic}) at position {record.position} of the log cannot be made a row: {error}"
        if isinstance(error, OfNewerCode):
            raise NewerRecord(f"{why}. All before it is exported, nothing after it") from error
        raise Unexportable(
            f"{why}. All before it is exported, nothing after it. `just audit` says whether the log is damaged"
        ) from error
    return row


def stopping_at_newer(dataset: Dataset, folder: Path) -> Dataset:
    """Return a copy of the dataset; its topics also have the names of the facts that only newer code knows.

    The vocabulary in `folder`, the log's, names them; if none can be read, nothing is added. So an export stops at such
    a fact. Otherwise newer code, which may make a row of it, would find the sink past it.
    """
    new = sorted(word for word in unknown(folder, VOCABULARY) if " " not in word)
    return replace(dataset, topics=(*dataset.topics, *new))


async def chunks(log: Log, dataset: Dataset, after: int, size: int = CHUNK) -> AsyncGenerator[list[Notification], None]:
    """Yield the dataset's records after position `after`, in log order, in lists of 1 to `size` records.

    Goes on to the end of the log, including records that are added meanwhile. Raises StoreError.
    """
    while True:
        records = await log.select_notifications(after, size, dataset.topics)
        if records:
            yield records
            after = records[-1].position
        if len(records) < size:
            return


async def position_at(log: Log, position: int) -> ExportPosition:
    """Make the export position at `position`, with the id of the log's fact there, or an empty id if there is none.

    A position of 0 or less gives START. Raises StoreError.
    """
    if position <= 0:
        return START
    found = await log.select_notifications(position - 1, 1)
    # Positions may have gaps: then there is no fact to name.
    return ExportPosition(position, id_of(found[0]) if found and found[0].position == position else "")


async def check(log: Log, at: ExportPosition) -> None:
    """Check that a sink at the position `at` was filled from this log.

    Raises AnotherLog if the log ends before that position, or has another fact or none there; StoreError. With an empty
    `fact_id` only the log's end is compared.
    """
    there = await position_at(log, at.position)
    if at.position > await log.max_notification_id():
        raise AnotherLog(
            f"the export ends at position {at.position}, but this log ends before that: it is not the log that was "
            "exported. Put the exported log back, or export this one from its start: --from 1"
        )
    if at.fact_id and there.fact_id != at.fact_id:
        raise AnotherLog(
            f"the export ends with {at.fact_id} at position {at.position}, where this log has "
            f"{there.fact_id or 'nothing'}: it is not the log that was exported. Put the exported log back, or export "
            "this one from its start: --from 1"
        )


async def position_from(log: Log, dataset: Dataset, instant: datetime) -> int | None:
    """Find the lowest log position whose row is of `instant` or later; None: all rows are earlier.

    Reads the log row by row from its beginning, without bisecting: clocks jump, so a later position may have an earlier
    time. Raises StoreError, Unexportable.
    """
    async with aclosing(chunks(log, dataset, 0)) as found:
        async for records in found:
            for record in records:
                if to_row(dataset, record).at >= instant:
                    return record.position
    return None


class Lag(NamedTuple):
    """How much a sink trails the log.

    `head` is the log's last position, `position` the sink's. `records`: how many positions are after the sink's, also
    of facts that become no row. `seconds`: the age of the first row there. Both are 0 if no row waits.
    """

    position: int
    head: int
    records: int
    seconds: float


async def lag(log: Log, dataset: Dataset, at: ExportPosition, now: datetime) -> Lag:
    """Measure the lag of a sink at the position `at`. Raises StoreError, Unexportable."""
    head = await log.max_notification_id()
    waiting = await log.select_notifications(at.position, 1, dataset.topics)
    if not waiting or head <= at.position:
        return Lag(at.position, head, 0, 0.0)
    seconds = (now - to_row(dataset, waiting[0]).at).total_seconds()
    return Lag(at.position, head, head - at.position, max(0.0, round(seconds, 3)))
