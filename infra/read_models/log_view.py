"""Read models of a service's own log."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from contracts.wire import fact_id
from infra.aio import Backoff, wait
from infra.read_models.errors import Rejected, ViewBehind
from infra.read_models.tables import CHUNK, Checkpoint, Projection, Tables
from infra.store.errors import StoreError, StoreSetupError
from infra.store.event_store import EventStore
from infra.store.records import Notification

logger = structlog.get_logger()


class Pace(NamedTuple):
    """How a view follows the log: transaction size, lag, pause after a failure, and patience of a reader."""

    chunk: int = CHUNK
    """Records applied in one transaction, at most."""

    lag_s: float = 0.25
    """Without a reader who waits, a view applies new records only this many seconds after the first of them. That makes
    fewer transactions, and leaves the CPU to requests."""

    retry_s: float = 1.0
    """The longest pause after a failure, in seconds; the jitter shortens it, but to no less than half."""

    patience_s: float = 5.0
    """The longest time, in seconds, that a reader waits for a view that is catching up."""


DEFAULT = Pace()


class LogView:
    """Keeps one projection's tables up to date with the service's own log (by `run`), and answers reads of them."""

    def __init__(self, projection: Projection, store: EventStore, tables: Tables, pace: Pace = DEFAULT) -> None:
        self._projection = projection
        self._store = store
        self._tables = tables
        self._pace = pace
        self._grown = asyncio.Event()
        self._wanted = asyncio.Event()
        """Set by a reader who waits, or by `rebuild`: `run` then does not wait for `lag_s`."""
        self._moved = asyncio.Condition()
        self._drop = False
        self._trouble: str | None = None
        """Why the last records could not be applied, and what to do; None once they were."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, projection: Projection, store: EventStore, folder: Path, pace: Pace = DEFAULT
    ) -> AsyncIterator["LogView"]:
        """Open the projection's file in this folder, made if missing; yield its view, and close the file at the end.

        The caller has to start `run`. Raises StoreSetupError if the file cannot be used or has read past the log's end.
        While the store cannot be read, the latter is not checked.
        """
        try:
            last = await store.max_notification_id()
        except StoreError:  # the store may recover; the view waits for it
            last = sys.maxsize
        async with Tables.open(projection, folder) as tables:
            if tables.checkpoint.position > last:
                raise StoreSetupError(
                    f"{tables.path} has read to position {tables.checkpoint.position} of a log that ends at {last}: "
                    "it belongs to another log. It is only a view: delete it, and it is rebuilt"
                )
            yield cls(projection, store, tables, pace)

    @property
    def position(self) -> int:
        """The position of the log up to which the tables were fed."""
        return self._tables.checkpoint.position

    def log_has_grown(self) -> None:
        self._grown.set()

    def rebuild(self) -> None:
        """Ask `run` to drop the tables and feed them again from the log's beginning; return at once.

        Readers wait meanwhile; one that would wait longer than `patience_s` gets ViewBehind.
        """
        self._drop = True
        self._grown.set()
        self._wanted.set()

    async def behind(self) -> int:
        """Return how many positions of the log the view has yet to read. A requested rebuild counts as begun.

        Raises StoreError; ViewBehind, which says why, while the view cannot go on.
        """
        if self._trouble is not None:
            raise ViewBehind(f"the view {self._projection.name} cannot go on: {self._trouble}")
        if self._drop:
            return await self._store.max_notification_id()
        return max(0, await self._store.max_notification_id() - self._tables.checkpoint.position)

    async def run(self) -> None:
        """Apply the log's records to the tables, and new ones as `log_has_grown` reports them, until canceled.

        Errors of the store and of the view's file are logged, and the work is tried again. A record that the projection
        cannot take is logged and passed over: one such fact must not stop the service.
        """
        backoff = Backoff(self._pace.retry_s, self._pace.retry_s)
        while True:
            self._grown.clear()
            try:
                more = await self._advance()
            except StoreError as error:
                self._trouble = str(error)
                logger.warning("a view fell behind; trying again", view=self._projection.name, error=str(error))
                await self._tables.roll_back()
                await asyncio.sleep(backoff.next_s())
                continue
            self._trouble = None
            if not more:
                await self._grown.wait()
                await wait(self._wanted, self._pace.lag_s)
                self._wanted.clear()

    async def _advance(self) -> bool:
        """Apply the next chunk, after dropping the tables if a rebuild is requested; wake readers who wait.

        Returns whether the chunk was full: then there may be more. Raises StoreError.
        """
        if self._drop:
            logger.info("rebuilding a view", view=self._projection.name)
            await self._tables.clear()
            self._drop = False
        read = self._tables.checkpoint.position
        last = await self._store.max_notification_id()
        records = await self._store.select_notifications(read, self._pace.chunk, self._projection.topics)
        full = len(records) == self._pace.chunk
        position = records[-1].position if full else max(last, records[-1].position if records else 0)
        if records:
            await self._apply(records, Checkpoint(position))
        elif position > read:
            self._tables.checkpoint = Checkpoint(position)  # no record of its topics: not worth a transaction
        async with self._moved:
            self._moved.notify_all()
        return full

    async def _apply(self, records: Sequence[Notification], checkpoint: Checkpoint) -> None:
        """Apply these records; if one is rejected, each alone, without those rejected again. Raises StoreError."""
        if await self._applied(records, checkpoint) is None:
            return
        for record in records:
            rejected = await self._applied([record], Checkpoint(record.position))
            if rejected is not None:
                logger.error(
                    "a read model passes over a fact that it cannot take; once that is mended, rebuild it",
                    view=self._projection.name,
                    position=record.position,
                    fact_id=fact_id(record.originator_id, record.originator_version),
                    error=f"{type(rejected.error).__name__}: {rejected}",
                )
        await self._tables.apply((), checkpoint)

    async def _applied(self, records: Sequence[Notification], checkpoint: Checkpoint) -> Rejected | None:
        """Apply these records and return None; or roll back all, and return the error that one of them is to blame for.

        The error does not say which record. Raises StoreError if the file is to blame.
        """
        try:
            await self._tables.apply(records, checkpoint)
        except Rejected as error:
            await self._tables.roll_back()
            return error
        return None

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Wait until the view has read every fact recorded so far, then run this SQL; return its rows.

        So a client reads its own writes. If the tables were emptied meanwhile, it waits and reads again. Raises
        ViewBehind if a wait takes longer than `patience_s`, or the store or the view's file fails, or for wrong SQL.
        """
        try:
            while True:
                await self._caught_up()
                with contextlib.suppress(ViewBehind):
                    return await self._tables.select(sql, parameters)
        except (TimeoutError, StoreError) as error:
            raise ViewBehind(f"the view {self._projection.name} has not caught up with the log") from error

    async def _caught_up(self) -> None:
        """Wait until the tables have every fact recorded so far. Raises TimeoutError after `patience_s`; StoreError."""
        last = await self._store.max_notification_id()
        async with asyncio.timeout(self._pace.patience_s), self._moved:
            while self._drop or self._tables.checkpoint.position < last:
                self._grown.set()
                self._wanted.set()
                await self._moved.wait()
