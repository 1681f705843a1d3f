"""Read models of a service's own log."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from infra.read_models.tables import Checkpoint, Projection, Tables, ViewBehind
from infra.store.event_store import EventStore, StoreError
from infra.store.sqlite import StoreSetupError

logger = structlog.get_logger()

CHUNK: Final = 2_000  # records applied in one transaction
PAUSE_S: Final = 0.25  # a view that nobody waits for trails the log by this much, and costs the orders next to nothing

RETRY_S: Final = 1.0
PATIENCE_S: Final = 5.0  # of a reader with a view that is catching up


class LogView:
    """One projection's tables, following the service's own log."""

    def __init__(self, projection: Projection, store: EventStore, tables: Tables) -> None:
        self._projection = projection
        self._store = store
        self._tables = tables
        self._grown = asyncio.Event()
        self._wanted = asyncio.Event()
        self._moved = asyncio.Condition()
        self._drop = False

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, projection: Projection, store: EventStore, folder: Path) -> AsyncIterator["LogView"]:
        """The view in this folder, made if missing. Raises StoreSetupError."""
        try:
            head = await store.max_notification_id()
        except StoreError:  # it may heal; the view waits for it
            head = sys.maxsize
        async with Tables.open(projection, folder) as tables:
            if tables.checkpoint.position > head:
                raise StoreSetupError(
                    f"{tables.path} has read to position {tables.checkpoint.position} of a log that ends at {head}: "
                    "it is another log's. It is a view: delete it, and it is rebuilt"
                )
            yield cls(projection, store, tables)

    def log_has_grown(self) -> None:
        self._grown.set()

    def rebuild(self) -> None:
        """Drop the tables and feed them again from the log's beginning; readers wait meanwhile."""
        self._drop = True
        self._grown.set()
        self._wanted.set()

    async def behind(self) -> int:
        """How many positions of the log it has yet to read. Raises StoreError."""
        if self._drop:
            return await self._store.max_notification_id()
        return max(0, await self._store.max_notification_id() - self._tables.checkpoint.position)

    async def run(self) -> None:
        """Follow the log."""
        while True:
            self._grown.clear()
            try:
                more = await self._advance()
            except (StoreError, sqlite3.Error) as error:
                logger.warning("a view fell behind; trying again", view=self._projection.name, error=str(error))
                await self._tables.forget_half_done()
                await asyncio.sleep(RETRY_S)
                continue
            if not more:
                await self._grown.wait()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_S):
                        await self._wanted.wait()
                self._wanted.clear()

    async def _advance(self) -> bool:
        """Apply the next chunk; true if there is more."""
        if self._drop:
            logger.info("rebuilding a view", view=self._projection.name)
            await self._tables.clear()
            self._drop = False
        read = self._tables.checkpoint.position
        head = await self._store.max_notification_id()
        records = await self._store.select_notifications(read, CHUNK, self._projection.topics)
        full = len(records) == CHUNK
        position = records[-1].position if full else max(head, records[-1].position if records else 0)
        if records:
            await self._tables.apply(records, Checkpoint(position))
        elif position > read:
            self._tables.checkpoint = Checkpoint(position)  # nothing there that concerns it: not worth a transaction
        async with self._moved:
            self._moved.notify_all()
        return full

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the view as of now or later: whoever read an answer finds what it said. Raises ViewBehind."""
        try:
            head = await self._store.max_notification_id()
            async with asyncio.timeout(PATIENCE_S), self._moved:
                while self._drop or self._tables.checkpoint.position < head:
                    self._grown.set()
                    self._wanted.set()
                    await self._moved.wait()
            return await self._tables.select(sql, parameters)
        except (TimeoutError, StoreError, sqlite3.Error) as error:
            raise ViewBehind(f"the view {self._projection.name} has not caught up with the log") from error
