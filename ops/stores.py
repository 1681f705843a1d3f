"""Reads the services' logs from their stores, beside the processes that write them."""

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from infra.settings import Settings, load
from infra.store import identity
from infra.store.connection import translated
from infra.store.errors import StoreError, next_step, rebuild
from infra.store.records import Notification
from infra.store.sqlite import SQLiteStore
from ops.errors import Unreachable

CHUNK: Final = 5_000  # records read at once: a read transaction of milliseconds, which delays no checkpoint


def folder(env: Mapping[str, str], service: str) -> Path:
    """Return the folder with a service's store and read models; it may be missing. Raises SettingsError."""
    return load(Settings, service, 1, env).data_dir / service


def store(env: Mapping[str, str], service: str) -> Path:
    """Return the path of the file with a service's log; it may be missing. Raises SettingsError."""
    return folder(env, service) / "events.sqlite"


class RecordedFacts(Protocol):
    """Finds facts in a service's log, as SQLiteStore does."""

    async def select_stream(self, stream: str) -> list[Notification]:
        """Return all records of this stream by version; before them its facts that older code recorded elsewhere."""
        ...

    async def find_all(self, ids: Collection[tuple[str, int]]) -> list[Notification]:
        """Return the records with these (stream, version), in any order, without the missing ones."""
        ...


class ServiceLog(SQLiteStore):
    """A service's log, opened for reading. The methods that it defines raise Unreachable, with the log and its file.

    The others, such as `select_streams`, raise StoreError as in SQLiteStore.
    """

    path: Path
    service = ""

    async def select_stream(self, stream: str) -> list[Notification]:
        with self._named():
            return await super().select_stream(stream)

    async def find_all(self, ids: Collection[tuple[str, int]]) -> list[Notification]:
        with self._named():
            return await super().find_all(ids)

    async def select_notifications(self, after: int, limit: int, topics: Collection[str] = ()) -> list[Notification]:
        with self._named():
            return await super().select_notifications(after, limit, topics)

    async def max_notification_id(self) -> int:
        with self._named():
            return await super().max_notification_id()

    async def select_newest(
        self, after: int, until: int, topics: Collection[str], containing: bytes = b""
    ) -> list[Notification]:
        """Return the records after position `after`, up to and including `until`, of these topics, the newest first.

        Only records whose body has the bytes `containing` somewhere are returned; empty: all. Without `topics`: none.
        """
        with self._named(), translated():
            rows = await self._reader.execute_fetchall(
                "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events"
                " WHERE rowid > ? AND rowid <= ? AND topic IN (SELECT value FROM json_each(?)) AND instr(state, ?)"
                " ORDER BY rowid DESC",
                (after, until, json.dumps(list(topics)), containing),
            )
        return [Notification(*row) for row in rows]

    async def has_stream(self, stream: str) -> bool:
        """Return whether any fact is recorded in this stream; one that older code recorded elsewhere does not count."""
        with self._named(), translated():
            rows = await self._reader.execute_fetchall(
                "SELECT 1 FROM stored_events WHERE originator_id = ? LIMIT 1", (stream,)
            )
        return bool(list(rows))

    def _named(self) -> contextlib.AbstractContextManager[None]:
        return _named(self.service, self.path)


@contextlib.contextmanager
def _named(service: str, path: Path) -> Iterator[None]:
    """Turn a StoreError in the block into what `unreadable` makes of it."""
    try:
        yield
    except StoreError as error:
        raise unreadable(service, path, error.__cause__ or error) from error


def unreadable(service: str, path: Path, error: BaseException) -> Unreachable:
    """Return the error for a service's log that cannot be read: it says which one, why, and what to do."""
    if path.exists():
        step = next_step(error, rebuild(service))
    elif identity.outside(path, service).exists():
        step = (
            f"It is missing, but {service}_svc has recorded in it: put it back, or stop {service}_svc and rebuild it "
            f"from the stream (just rebuild {service})"
        )
    else:
        step = "Has it run with this DATA_DIR?"
    return Unreachable(f"the log of {service}_svc cannot be read: {path}: {error}. {step}")


@contextlib.asynccontextmanager
async def log(env: Mapping[str, str], service: str) -> AsyncIterator[ServiceLog]:
    """Open a service's log read-only, whether the service runs or not; close it at the block's end.

    Raises SettingsError, and Unreachable if the log is missing or cannot be read.
    """
    path = store(env, service)
    async with contextlib.AsyncExitStack() as stack:
        with _named(service, path):
            opened = await stack.enter_async_context(ServiceLog.read(path))
        opened.path, opened.service = path, service
        yield opened


async def chunks(
    opened: SQLiteStore, after: int = 0, until: int | None = None, topics: Collection[str] = ()
) -> AsyncGenerator[list[Notification]]:
    """Yield the records after position `after`, up to and including `until`, in log order, in lists of up to CHUNK.

    `until` None: the log's end when reading begins. `topics`: names of facts; if any are given, records of others are
    left out. A list may be empty. Raises StoreError, for a ServiceLog Unreachable.
    """
    last = await opened.max_notification_id() if until is None else until
    while after < last:
        records = await opened.select_notifications(after, CHUNK, topics)
        if not records:
            return
        after = records[-1].position
        yield [record for record in records if record.position <= last] if after > last else records
