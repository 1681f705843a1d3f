"""The export's loop: look into the log, make rows, keep them in hand until there are enough, commit them."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

import structlog

from infra.export.retry_policy import RetryPolicy
from infra.export.rows import START, Dataset, ExportPosition, Row, Unexportable
from infra.export.sink import Sink, Unavailable
from infra.export.source import CHUNK, OpenLog, check, chunks, lag, mark_at, position_from, to_row
from infra.store.event_store import StoreError
from infra.store.records import Notification

logger = structlog.get_logger()

GRACE_S: Final = 3.0  # for what is under way when the process is to end
SAY_AGAIN_S: Final = 60.0  # that the log still cannot be read


class Stopped(Exception):
    """The process is to end: what is in hand is dropped, and read again by the next one."""


class Exporter:
    """The caller holds the sink's lock."""

    def __init__(
        self,
        dataset: Dataset,
        open_log: OpenLog,
        sink: Sink,
        circuit: RetryPolicy,
        *,
        poll_s: float,
        report_s: float,
        clock: Callable[[], datetime],
        closing: asyncio.Event,
    ) -> None:
        self._dataset = dataset
        self._open_log = open_log
        self._sink = sink
        self._circuit = circuit
        self._poll_s = poll_s
        self._report_s = report_s
        self._clock = clock
        self._closing = closing
        self._mark = START
        self._hand: list[Row] = []
        self._bytes = 0
        self._since = 0.0
        self._said = float("-inf")

    async def rewind(self, start: int | datetime) -> ExportPosition:
        """Go back so that the row at this position, or the first one of this time or later, is written again.

        Raises StoreError, Unexportable, Unavailable, SinkError.
        """
        async with self._open_log() as found:
            first = start if isinstance(start, int) else await position_from(found, self._dataset, start)
            before = await self._sink.position()
            if first is not None and first <= before.position:
                await self._sink.rewind(await mark_at(found, first - 1))
        after = await self._sink.position()
        logger.info("goes back", wanted=str(start), was_at=before.position, continues_after=after.position)
        return after

    async def run(self, *, once: bool = False) -> None:
        """Export until `closing` is set; with `once`, until everything that the log has is exported.

        Raises SinkError, AnotherLog, Unexportable: somebody has to do something first.
        """
        self._mark = await self._sink.position()
        reporting = asyncio.create_task(self._report())
        try:
            await self._follow(once=once)
        except Stopped:
            logger.info("what was in hand is dropped; the next export reads it again", rows=len(self._hand))
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)

    async def _follow(self, *, once: bool) -> None:
        while not self._closing.is_set():
            found = await self._look(once=once)
            at_end = found == "end"
            if found == "full" or (self._hand and (self._is_due() or (once and at_end))):
                await self._commit()
            elif once and at_end:
                return
            else:
                await self._pause(self._poll_s)
        if self._hand:
            await self._commit()

    async def _look(self, *, once: bool) -> Literal["full", "end", "unreadable"]:
        """Take what the log has into hand, until that is full or the log at its end."""
        try:
            # Opened for each look, and closed while a commit takes its time: whoever closes the store, moves it or puts
            # another one there is not held up, and is noticed.
            async with self._open_log() as found:
                after = ExportPosition(self._hand[-1].position, self._hand[-1].fact_id) if self._hand else self._mark
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
            self._say_unreadable(error)
            return "unreadable"
        self._said = float("-inf")
        return "end"

    def _take(self, record: Notification) -> bool:
        """False: this one cannot be taken before those in hand are committed. Raises Unexportable."""
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
        """Returns when the sink has what is in hand. Raises Stopped."""
        while True:
            try:
                await self._attempt()
                break
            except Unavailable as trouble:
                wait_s = self._circuit.failed(trouble)
            await self._pause(wait_s)
            if self._closing.is_set():
                raise Stopped
        self._circuit.succeeded()
        first, last = self._hand[0], self._hand[-1]
        logger.debug("committed", rows=len(self._hand), first=first.position, last=last.position)
        self._mark = ExportPosition(last.position, last.fact_id)
        self._hand = []
        self._bytes = 0

    async def _attempt(self) -> None:
        """One commit; when the process is to end, it gets a moment to become one."""
        attempt = asyncio.ensure_future(self._sink.commit(self._hand))
        closing = asyncio.ensure_future(self._closing.wait())
        await asyncio.wait([attempt, closing], return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        done, _ = await asyncio.wait([attempt], timeout=GRACE_S if self._closing.is_set() else None)
        if not done:
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
            raise Stopped
        attempt.result()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def _say_unreadable(self, error: StoreError) -> None:
        if self._now() - self._said >= SAY_AGAIN_S:
            self._said = self._now()
            logger.warning(
                "the log cannot be read; waiting for it (has the service run with this DATA_DIR?)", reason=str(error)
            )

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._report_s)
            with contextlib.suppress(StoreError, Unexportable):  # said elsewhere
                async with self._open_log() as found:
                    now = await lag(found, self._dataset, self._mark, self._clock())
                logger.info(
                    "exporting",
                    position=now.position,
                    head=now.head,
                    lag_records=now.records,
                    lag_s=now.seconds,
                    in_hand=len(self._hand),
                    paused=self._circuit.is_open,
                )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
