"""Reads the services' logs from their stores, beside the processes that write them."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Final

from infra.settings import Settings, load
from infra.store.errors import StoreError
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


@contextlib.asynccontextmanager
async def log(env: Mapping[str, str], service: str) -> AsyncIterator[SQLiteStore]:
    """Open a service's log read-only, whether the service runs or not; close it at the block's end.

    Raises SettingsError, and Unreachable if the log is missing. A StoreError in the block becomes Unreachable, too.
    """
    try:
        async with SQLiteStore.read(store(env, service)) as opened:
            yield opened
    except StoreError as error:
        raise Unreachable(
            f"the log of {service}_svc cannot be read: {error}. Has it run with this DATA_DIR?"
        ) from error


async def chunks(
    opened: SQLiteStore, after: int = 0, until: int | None = None, topics: Collection[str] = ()
) -> AsyncGenerator[list[Notification]]:
    """Yield the records after position `after`, up to and including `until`, in log order, in lists of up to CHUNK.

    `until` None: the log's end when reading begins. `topics`: names of facts; if any are given, records of others are
    left out. A list may be empty. Raises StoreError.
    """
    last = await opened.max_notification_id() if until is None else until
    while after < last:
        records = await opened.select_notifications(after, CHUNK, topics)
        if not records:
            return
        after = records[-1].position
        yield [record for record in records if record.position <= last] if after > last else records
