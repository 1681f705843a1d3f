"""The kept history, in real stores, with services that go on from it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from contracts import Fact
from contracts.wire import NAMES, decode, fact_id
from infra.core.decider import Command, moved_facts
from infra.core.messages import Delivery, StreamPosition
from infra.core.writer import Writer
from infra.store.records import Notification, Record
from infra.store.sqlite import SQLiteStore
from ops.what_if.history import HistoryInMemory, read
from tests.domain.spec import SERVICES
from tests.infra.writing import relayed

FILE: Final = Path(__file__).with_name("history.jsonl")
OTHER_FILE: Final = Path(__file__).parents[1] / "what_if" / "history.jsonl"
"""A day on a real system, which the same code recorded."""
LATER: Final = datetime(2026, 12, 1, tzinfo=UTC)


def history(file: Path = FILE) -> HistoryInMemory:
    with file.open("rb") as lines:
        return read(lines)


async def logs_of(kept: HistoryInMemory) -> dict[str, list[Notification]]:
    return {name: [record async for records in kept.log(name) for record in records] for name in kept.ends}


class Going:
    """A service that works on its store: the real writer, without a broker."""

    def __init__(self, name: str, store: SQLiteStore, now: datetime = LATER) -> None:
        service = SERVICES[name]
        self.name, self.store, self.service = name, store, service
        self.recorded: list[Fact] = []
        self.writer = Writer(service.aggregates, service.reactions, store, lambda: now, self.recorded.extend)

    async def hear(self, record: Notification) -> Sequence[Fact]:
        """Handle the fact in this record as a consumer would deliver it; return what is recorded because of it."""
        its_id = fact_id(record.originator_id, record.originator_version)
        fact = decode(record.state)
        subject = f"{NAMES[type(fact)]}.{getattr(fact, fact.key_field)}"
        return await self.writer.attempt(
            Delivery(its_id, record.state, "ack", StreamPosition(1, 1), subject, relayed(its_id))
        )

    async def ask(self, command: Command) -> Sequence[Fact]:
        return (await self.writer.execute(command)).facts

    async def state(self, stream: str) -> Any:
        (state,) = await self.writer.read([stream])
        return state

    async def log(self) -> list[Notification]:
        return await self.store.select_notifications(0, 100_000)


@contextlib.asynccontextmanager
async def going(folder: Path, name: str) -> AsyncIterator[Going]:
    """The service on the store in this folder, opened as the service opens it."""
    path = folder / name / "events.sqlite"
    async with SQLiteStore.open(path, moved=moved_facts(SERVICES[name].aggregates)) as store:
        service = Going(name, store)
        run = asyncio.create_task(service.writer.run())
        try:
            yield service
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)


async def recorded_in(folder: Path, file: Path = FILE) -> dict[str, list[Notification]]:
    """Put the kept history into stores below this folder, as older code left them; return its logs."""
    logs = await logs_of(history(file))
    for name, log in logs.items():
        async with SQLiteStore.open(folder / name / "events.sqlite") as store:
            await store.insert_events([Record(*record[1:]) for record in log])
    return logs


def minutes(number: int) -> timedelta:
    return timedelta(minutes=number)
