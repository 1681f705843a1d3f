"""The export's loop: read the log, make rows, collect them in hand up to the sink's limits, commit them to the sink.

When no commit is due, the sink compacts what it has.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

import structlog

from infra import aio
from infra.export.errors import Unavailable, Unexportable
from infra.export.retry_policy import RetryPolicy
from infra.export.rows import START, Dataset, ExportPosition, Row
from infra.export.sink import Sink
from infra.export.source import CHUNK, OpenLog, check, chunks, lag, position_at, position_from, to_row
from infra.store.errors import StoreError
from infra.store.records import Notification

logger = structlog.get_logger()

GRACE_S: Final = 3.0
"""For a commit that is running when the process is asked to end. What it then is writing to a disk has to end, too."""
REPEAT_S: Final = 60.0  # between two warnings that the log cannot be read


class Stopped(Exception):
    """The process was asked to end before a commit of the rows in hand succeeded. The next process reads them again."""


class Exporter:
    """Exports one dataset to one sink, whose lock the caller holds.

    `poll_s`: the pause after a look into the log, unless a commit or more compaction follows. `report_s`: the time
    between two messages that report the lag. `grace_s`: how long a commit may take once `closing` is set. All in
    seconds. Set `closing` to end `run`, which commits the rows in hand first, unless an attempt fails or takes longer.
    """

    def __init__(
        self,
        dataset: Dataset,
        open_log: OpenLog,
        sink: Sink,
        retry: RetryPolicy,
        *,
        poll_s: float,
        report_s: float,
        clock: Callable[[], datetime],
        closing: asyncio.Event,
        grace_s: float = GRACE_S,
    ) -> None:
        self._dataset = dataset
        self._open_log = open_log
        self._sink = sink
        self._retry = retry
        self._poll_s = poll_s
        self._report_s = report_s
        self._clock = clock
        self._closing = closing
        self._grace_s = grace_s
        self._position = START
        self._hand: list[Row] = []
        self._bytes = 0
        self._since = 0.0
        self._warned_at = float("-inf")

    async def rewind(self, start: int | datetime) -> ExportPosition:
        """Set the sink back, so that `run` writes all rows from `start` on again; return the sink's new position.

        `start`: a log position, or a time with its zone, which means the first row of that time or later in the log. A
        start after the sink's position, or after all rows, changes nothing. Rows before it may be written again, too.
        Raises StoreError, Unexportable, Unavailable, SinkError.
        """
        async with self._open_log() as found:
            first = start if isinstance(start, int) else await position_from(found, self._dataset, start)
            before = await self._sink.position()
            if first is not None and first <= before.position:
                await self._sink.rewind(await position_at(found, first - 1))
        after = await self._sink.position()
        logger.info(
            "going back: rows are exported again",
            wanted=str(start),
            was_at=before.position,
            continues_after=after.position,
        )
        return after

    async def run(self, *, once: bool = False) -> None:
        """Export until `closing` is set; with `once`, end also when all rows of the log are exported.

        Repeats a failed commit until it succeeds or `closing` is set, and, without `once`, waits for a log that cannot
        be read. Raises Unavailable if the sink's position cannot be read; SinkError, AnotherLog, Unexportable: an
        operator has to act first. With `once` also StoreError.
        """
        self._position = await self._sink.position()
        reporting = asyncio.create_task(self._report())
        try:
            await self._follow(once=once)
        except Stopped:
            logger.info(
                "stopped before the sink took the rows in hand; the next export reads them again", rows=len(self._hand)
            )
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)

    async def _follow(self, *, once: bool) -> None:
        while not self._closing.is_set():
            found = await self._look(once=once)
            at_end = found == "end"
            if found == "full" or (self._hand and (self._is_due() or (once and at_end))):
                await self._commit()
            elif await self._sink.compact(self._closing.is_set):
                continue
            elif once and at_end:
                return
            else:
                await aio.wait(self._closing, self._poll_s)
        if self._hand:
            await self._commit()

    async def _look(self, *, once: bool) -> Literal["full", "end", "unreadable"]:
        """Take rows from the log into hand, and return why this stopped.

        `full`: the rows in hand have to be committed first. `end`: the log has no more rows, or `closing` is set.
        `unreadable`: reading failed; with `once` raises StoreError instead. Raises AnotherLog, Unexportable.
        """
        try:
            # Opened for each look and closed during a commit: so an operator can move or replace the store meanwhile,
            # and the export notices it.
            async with self._open_log() as found:
                after = (
                    ExportPosition(self._hand[-1].position, self._hand[-1].fact_id) if self._hand else self._position
                )
                await check(found, after)
                limits = self._sink.limits
                size = min(CHUNK, limits.rows)
                async with contextlib.aclosing(chunks(found, self._dataset, after.position, size)) as more:
                    async for records in more:
                        for record in records:
                            if not self._take(record) or len(self._hand) >= limits.rows or self._bytes >= limits.bytes:
                                return "full"
                        if self._closing.is_set():
                            break
        except StoreError as error:
            if once:
                raise
            self._warn_unreadable(error)
            return "unreadable"
        self._warned_at = float("-inf")
        return "end"

    def _read_to(self) -> ExportPosition:
        """Return the position of the last row in hand, or the sink's if no row is in hand."""
        return ExportPosition(self._hand[-1].position, self._hand[-1].fact_id) if self._hand else self._position

    def _take(self, record: Notification) -> bool:
        """Make the record's row and take it into hand; return True.

        If the record cannot be made a row: return False while rows are in hand, which have to be committed first, and
        raise Unexportable when none are.
        """
        try:
            row = to_row(self._dataset, record)
        except Unexportable:
            if self._hand:
                return False
            raise
        if not self._hand:
            self._since = self._now()
        self._hand.append(row)
        self._bytes += len(record.state)
        return True

    def _is_due(self) -> bool:
        return self._now() - self._since >= self._sink.limits.age_s

    async def _commit(self) -> None:
        """Commit the rows in hand and empty the hand; repeat a failed attempt until one succeeds.

        Raises Stopped only once `closing` is set: instead of a repeat, or if the attempt is too slow (see `_attempt`).
        """
        while True:
            try:
                await self._attempt()
                break
            except Unavailable as trouble:
                wait_s = self._retry.failed(trouble)
            if await aio.wait(self._closing, wait_s):
                raise Stopped
        self._retry.succeeded()
        self._position = self._read_to()
        logger.debug("committed", rows=len(self._hand), first=self._hand[0].position, last=self._position.position)
        self._hand = []
        self._bytes = 0

    async def _attempt(self) -> None:
        """Try once to commit the rows in hand, which stay in hand. Raises Unavailable if the commit failed.

        Raises Stopped if the commit takes longer than `grace_s` after the later of its beginning and `closing`.
        """
        attempt = asyncio.ensure_future(self._sink.commit(self._hand))
        closing = asyncio.ensure_future(self._closing.wait())
        await asyncio.wait([attempt, closing], return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        done, _ = await asyncio.wait([attempt], timeout=self._grace_s if self._closing.is_set() else None)
        if not done:
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
            raise Stopped
        attempt.result()

    def _warn_unreadable(self, error: StoreError) -> None:
        if self._now() - self._warned_at >= REPEAT_S:
            self._warned_at = self._now()
            logger.warning(
                "the log cannot be read; waiting for it (has the service run with this DATA_DIR?)", reason=str(error)
            )

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._report_s)
            with contextlib.suppress(StoreError, Unexportable):  # `_look` logs or raises these
                async with self._open_log() as found:
                    now = await lag(found, self._dataset, self._position, self._clock())
                logger.info(
                    "exporting",
                    position=now.position,
                    head=now.head,
                    lag_records=now.records,
                    lag_s=now.seconds,
                    in_hand=len(self._hand),
                    paused=self._retry.is_paused,
                )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
