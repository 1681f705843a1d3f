"""The log as an export sees it: something to read from a position, opened for a look and closed again."""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import msgspec

from contracts.wire import fact_id
from infra.export.rows import START, Dataset, ExportPosition, Row, Unexportable
from infra.store.records import Notification

CHUNK: Final = 2_000  # records read at once: a read transaction of milliseconds, which no checkpoint waits for


class Log(Protocol):
    """The part of the EventStore that an export needs. Both raise StoreError."""

    async def select_notifications(
        self, after: int, limit: int, topics: Collection[str] = ()
    ) -> list[Notification]: ...
    async def max_notification_id(self) -> int: ...


OpenLog = Callable[[], AbstractAsyncContextManager[Log]]
"""Opens the log to be read; entering it raises StoreError, also when there is none."""


class AnotherLog(Exception):
    """The sink was not filled from this log."""


def id_of(record: Notification) -> str:
    return fact_id(record.originator_id, record.originator_version)


def to_row(dataset: Dataset, record: Notification) -> Row:
    """Raises Unexportable."""
    try:
        row: Row = dataset.row(record)
    except (msgspec.DecodeError, ValueError) as error:
        raise Unexportable(
            f"{id_of(record)} ({record.topic}) at position {record.position} of the log cannot be made a row: {error}. "
            "Nothing behind it is exported. Is this process older than the one that wrote the log?"
        ) from error
    return row


async def chunks(log: Log, dataset: Dataset, after: int, size: int = CHUNK) -> AsyncGenerator[list[Notification], None]:
    """The dataset's records past `after`, in log order, up to the end that the log has when it is reached."""
    while True:
        records = await log.select_notifications(after, size, dataset.topics)
        if records:
            yield records
            after = records[-1].position
        if len(records) < size:
            return


async def mark_at(log: Log, position: int) -> ExportPosition:
    """The mark of a sink that has everything up to this position."""
    if position <= 0:
        return START
    found = await log.select_notifications(position - 1, 1)
    # Positions may have gaps: then there is no fact to name.
    return ExportPosition(position, id_of(found[0]) if found and found[0].position == position else "")


async def check(log: Log, mark: ExportPosition) -> None:
    """Raises AnotherLog unless the fact that the sink ends with stands in this log where it was."""
    there = await mark_at(log, mark.position)
    if mark.position > await log.max_notification_id():
        raise AnotherLog(
            f"what was exported ends at position {mark.position}, and the log before that: it is not the log that was "
            "exported. Put that one back, or export this one from its start: --from 1"
        )
    if mark.fact_id and there.fact_id != mark.fact_id:
        raise AnotherLog(
            f"what was exported ends with {mark.fact_id} at position {mark.position}, where the log has "
            f"{there.fact_id or 'nothing'}: it is not the log that was exported. Put that one back, or export this one "
            "from its start: --from 1"
        )


async def position_from(log: Log, dataset: Dataset, instant: datetime) -> int | None:
    """The position of the first row that is as late as `instant`, or later; None: all are earlier.

    Looks at each: clocks jump, so nothing says that later positions have later times.
    """
    async with aclosing(chunks(log, dataset, 0)) as found:
        async for records in found:
            for record in records:
                if to_row(dataset, record).at >= instant:
                    return record.position
    return None


class Lag(NamedTuple):
    """How far a sink is behind: `records` of the log past its mark, and the age in `seconds` of the first row there.

    Both are 0 when no row waits, whatever else the log has.
    """

    position: int
    head: int
    records: int
    seconds: float


async def lag(log: Log, dataset: Dataset, mark: ExportPosition, now: datetime) -> Lag:
    head = await log.max_notification_id()
    waiting = await log.select_notifications(mark.position, 1, dataset.topics)
    if not waiting or head <= mark.position:
        return Lag(mark.position, head, 0, 0.0)
    seconds = (now - to_row(dataset, waiting[0]).at).total_seconds()
    return Lag(mark.position, head, head - mark.position, max(0.0, round(seconds, 3)))
