"""The log that an export reads from a position on; it is opened for each look and closed again."""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import msgspec

from contracts.wire import fact_id
from infra.export.errors import AnotherLog, Unexportable
from infra.export.rows import START, Dataset, ExportPosition, Row
from infra.store.records import Notification

CHUNK: Final = 2_000  # records read at once: a read transaction of milliseconds, which delays no checkpoint


class Log(Protocol):
    """The part of the EventStore that an export needs. Both methods raise StoreError."""

    async def select_notifications(
        self, after: int, limit: int, topics: Collection[str] = ()
    ) -> list[Notification]: ...
    async def max_notification_id(self) -> int: ...


OpenLog = Callable[[], AbstractAsyncContextManager[Log]]
"""Opens the log for reading. Entering it raises StoreError, also if there is no log."""


def id_of(record: Notification) -> str:
    """The id of the record's fact."""
    return fact_id(record.originator_id, record.originator_version)


def to_row(dataset: Dataset, record: Notification) -> Row:
    """The record's row. Raises Unexportable."""
    try:
        row: Row = dataset.row(record)
    except (msgspec.DecodeError, ValueError) as error:
        raise Unexportable(
            f"{id_of(record)} ({record.topic}) at position {record.position} of the log cannot be made a row: {error}. "
            "Nothing behind it is exported. Is this process older than the one that wrote the log?"
        ) from error
    return row


async def chunks(log: Log, dataset: Dataset, after: int, size: int = CHUNK) -> AsyncGenerator[list[Notification], None]:
    """The dataset's records behind `after`, in log order, up to the log's end at the time it is reached."""
    while True:
        records = await log.select_notifications(after, size, dataset.topics)
        if records:
            yield records
            after = records[-1].position
        if len(records) < size:
            return


async def position_at(log: Log, position: int) -> ExportPosition:
    """The export position at `position`: with the id of the fact there, or an empty id if there is none."""
    if position <= 0:
        return START
    found = await log.select_notifications(position - 1, 1)
    # Positions may have gaps: then there is no fact to name.
    return ExportPosition(position, id_of(found[0]) if found and found[0].position == position else "")


async def check(log: Log, at: ExportPosition) -> None:
    """Raises AnotherLog unless this log has the sink's last fact at the sink's position."""
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
    """The position of the first row at `instant` or later; None: all rows are earlier.

    It reads every row: clocks jump, so a later position may have an earlier time.
    """
    async with aclosing(chunks(log, dataset, 0)) as found:
        async for records in found:
            for record in records:
                if to_row(dataset, record).at >= instant:
                    return record.position
    return None


class Lag(NamedTuple):
    """How far a sink is behind the log.

    `head` is the log's last position, `position` the sink's. `records`: the positions between them, of all kinds.
    `seconds`: the age of the first row there. Both are 0 if no row waits.
    """

    position: int
    head: int
    records: int
    seconds: float


async def lag(log: Log, dataset: Dataset, at: ExportPosition, now: datetime) -> Lag:
    """The lag of a sink at this position. Raises StoreError, Unexportable."""
    head = await log.max_notification_id()
    waiting = await log.select_notifications(at.position, 1, dataset.topics)
    if not waiting or head <= at.position:
        return Lag(at.position, head, 0, 0.0)
    seconds = (now - to_row(dataset, waiting[0]).at).total_seconds()
    return Lag(at.position, head, head - at.position, max(0.0, round(seconds, 3)))
