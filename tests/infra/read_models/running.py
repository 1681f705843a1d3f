"""A view at work, and tables that are emptied between a reader's question and its answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

from aiosqlite import Connection

from infra.http.operators.read_models import AnyView
from infra.read_models.tables import Projection, Tables


class Emptied(Tables):
    """Tables whose first read after `rebuild` is set asks for a rebuild, and happens while they are empty."""

    rebuild: Callable[[], None] | None = None

    def __init__(self, projection: Projection, path: Path, writer: Connection, reader: Connection) -> None:
        super().__init__(projection, path, writer, cast(Connection, self))  # it reads through `execute_fetchall`
        self._own_reader = reader
        self._are_empty = asyncio.Event()
        self._were_read = asyncio.Event()
        self._were_read.set()

    async def clear(self) -> None:
        await super().clear()
        self._are_empty.set()
        await self._were_read.wait()

    async def execute_fetchall(self, *arguments: Any) -> Any:
        rebuild, self.rebuild = self.rebuild, None
        if rebuild is not None:
            self._are_empty.clear()
            self._were_read.clear()
            rebuild()
            await self._are_empty.wait()
        try:
            return await self._own_reader.execute_fetchall(*arguments)
        finally:
            self._were_read.set()


@contextlib.asynccontextmanager
async def running(view: AnyView) -> AsyncIterator[None]:
    """Run the view until the context ends."""
    run = asyncio.create_task(view.run())
    try:
        yield
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
