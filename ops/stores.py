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
    """The folder of a service's store and read models. Raises SettingsError."""
    return load(Settings, service, 1, env).data_dir / service


def store(env: Mapping[str, str], service: str) -> Path:
    """The file of a service's log. Raises SettingsError."""
    return folder(env, service) / "events.sqlite"


@contextlib.asynccontextmanager
async def log(env: Mapping[str, str], service: str) -> AsyncIterator[SQLiteStore]:
    """A service's log, read-only, whether the service runs or not. Raises Unreachable, SettingsError."""
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
    """The records behind position `after`, in log order, up to and including `until` (None: the log's end now).

    `topics`: only records of these, if any are given.
    """
    last = await opened.max_notification_id() if until is None else until
    while after < last:
        records = await opened.select_notifications(after, CHUNK, topics)
        if not records:
            return
        after = records[-1].position
        yield [record for record in records if record.position <= last] if after > last else records
