"""Reads the history in the services' own logs, beside the processes that write them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from contracts.fact import DECODE_ERRORS, Timestamp
from contracts.origin import number
from infra.core.decider import category
from infra.core.writer import Clock
from infra.local.services import service_names
from infra.store.errors import StoreError
from infra.store.records import Notification
from infra.store.sqlite import SQLiteStore
from infra.timestamps import now
from ops import stores
from ops.errors import Unreachable
from ops.what_if.difference import id_of

SETTLE_S: Final = 2.0
"""Seconds that running services get to hear and answer a new fact. They take milliseconds."""


class _Body(msgspec.Struct):
    at: Timestamp


class StoredHistory:
    """The RecordedHistory in the services' stores. Its methods raise Unreachable.

    At most some thousand records are in memory at a time.
    """

    def __init__(self, logs: Mapping[str, SQLiteStore], ends: Mapping[str, int], owners: Mapping[str, str]) -> None:
        """`logs`: the open stores by service. `owners`: category of streams → the service that keeps these streams."""
        self._logs = logs
        self._owners = owners
        self.ends = ends

    async def log(self, service: str) -> AsyncGenerator[Sequence[Notification]]:
        with _readable(service):
            async with contextlib.aclosing(stores.chunks(self._logs[service])) as chunks:
                async for records in chunks:
                    yield records

    async def said(self, service: str, topics: Collection[str]) -> AsyncGenerator[Sequence[Notification]]:
        until = self.ends[service]
        with _readable(service):
            async with contextlib.aclosing(stores.chunks(self._logs[service], 0, until, topics)) as chunks:
                async for records in chunks:
                    yield records

    async def find(self, ids: Collection[str]) -> dict[str, Notification]:
        wanted: dict[str, list[tuple[str, int]]] = {}
        for its_id in ids:
            stream, _, version = its_id.rpartition("@")
            owner = self._owners.get(category(stream))
            if owner is not None and number(version):
                wanted.setdefault(owner, []).append((stream, number(version)))
        found: dict[str, Notification] = {}
        for owner, ids_there in wanted.items():
            with _readable(owner):
                found |= {id_of(record): record for record in await self._logs[owner].find_all(ids_there)}
        return found


@contextlib.asynccontextmanager
async def opened(env: Mapping[str, str], owners: Mapping[str, str], clock: Clock = now) -> AsyncIterator[StoredHistory]:
    """Open the logs of all services below DATA_DIR, and close them at the block's end.

    If the newest fact is younger than SETTLE_S seconds, first wait until it is not: services can still answer it then.
    `owners`: category of streams → the service that keeps these streams. Raises Unreachable, SettingsError.
    """
    async with contextlib.AsyncExitStack() as stack:
        logs = {name: await stack.enter_async_context(stores.log(env, name)) for name in service_names()}
        ends: dict[str, int] = {}
        for name, log in logs.items():
            with _readable(name):
                ends[name] = await log.max_notification_id()
        said_at = [await _said_at(name, log, ends[name]) for name, log in logs.items()]
        # Without this wait the last facts would look unanswered.
        await asyncio.sleep(_still_in_flight_s(said_at, clock()))
        yield StoredHistory(logs, ends, owners)


async def _said_at(name: str, log: SQLiteStore, end: int) -> datetime | None:
    """Return the time of the last fact in a log that ends at `end`; None if it is empty or the fact is unreadable."""
    with _readable(name):
        newest = await log.select_notifications(end - 1, 1) if end else []
    with contextlib.suppress(*DECODE_ERRORS, IndexError):
        return msgspec.json.decode(newest[0].state, type=_Body).at
    return None


def _still_in_flight_s(said_at: Sequence[datetime | None], now: datetime) -> float:
    ages = [(now - at).total_seconds() for at in said_at if at is not None]
    return min(SETTLE_S, max(0.0, SETTLE_S - min(ages, default=SETTLE_S)))


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise Unreachable(f"the log of {name}_svc cannot be read: {error}") from error
