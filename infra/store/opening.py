"""Opens the file of a store: proves whose it is, makes what is missing, and has it checked after an unclean stop."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import structlog

from infra import files
from infra.aio import Backoff
from infra.store import identity
from infra.store.checkpointer import Checkpointer, log_affected
from infra.store.connection import ConnectStore, StoreConnection, connect_read_only
from infra.store.errors import StoreSetupError, rebuild, shows_damage
from infra.store.place import StoreFiles
from infra.store.statements import SCHEMA

logger = structlog.get_logger()

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 60.0
NEWEST: Final = 256
"""How many of the newest records are read, and found by their index, before a store is used."""

READABLE: Final = f"""
WITH newest AS (SELECT * FROM (SELECT rowid AS position, * FROM stored_events ORDER BY rowid DESC LIMIT {NEWEST}))
SELECT count(*), ifnull(max(newest.position) - min(newest.position) + 1, 0),
       ifnull(sum(found.rowid = newest.position), 0), ifnull(sum(length(newest.state)), 0)
FROM newest LEFT JOIN stored_events AS found ON found.originator_id = newest.originator_id
    AND found.originator_version = newest.originator_version
"""

Opened = tuple[StoreConnection, StoreConnection, StoreFiles, Checkpointer]
"""The connection that writes, the one that reads, the place of the files, and what moves the write-ahead log."""


@contextlib.asynccontextmanager
async def opening(path: Path, service: str, connect: ConnectStore) -> AsyncIterator[Opened]:
    """Open the store, made if missing, and close it at the end. `service`: whose it must be; empty: anybody's.

    Only their owner may then read and write its files. With `service` the file `<service>.identity` is made if it is
    missing or empty. After an unclean stop the whole file is checked while the store is in use; if it is damaged, the
    place's `trouble` says so. Raises StoreSetupError, sqlite3.Error, OSError.
    """
    files.make_private_folder(path.parent)
    examined = identity.examine(path, service)
    async with contextlib.AsyncExitStack() as stack:
        writer = await stack.enter_async_context(connect(path))
        reader = await stack.enter_async_context(connect(path))
        await writer.execute("PRAGMA wal_autocheckpoint = 0")
        await _prepare(writer, path, service, examined.store)
        place = StoreFiles(path, service)
        place.remember()
        checkpointer = Checkpointer(writer, place)
        stack.push_async_callback(checkpointer.finished)
        with contextlib.suppress(sqlite3.Error):  # a full disk or a lock: `check` says so, and it passes
            await checkpointer.move()
        if service:
            log_affected(sqlite3.sqlite_version_info)
            if not identity.known_id(path, service):
                files.write(identity.outside(path, service), f"{examined.store}\n".encode())
        if examined.unclean:
            checking = asyncio.create_task(_check_whole(path, place))
            stack.push_async_callback(_cancel, checking)
        yield writer, reader, place, checkpointer


async def _prepare(writer: StoreConnection, path: Path, service: str, store: str) -> None:
    """Make the tables and the identity if they are missing; read the newest records, at most NEWEST.

    Puts `service` into an identity without one. Lets only their owner read and write the files.
    Raises StoreSetupError if some of those records are missing or not found by their index; sqlite3.Error; OSError.
    """
    await writer.executescript(SCHEMA)
    for file in (path, *identity.companions(path)):
        file.chmod(files.PRIVATE)
    made = list(await writer.execute_fetchall("SELECT service FROM identity"))
    if not made:
        await writer.execute(identity.INSERT, (store, service, identity.new_id(), identity.next_ending("")))
    elif service and not made[0][0]:
        await writer.execute("UPDATE identity SET service = ? WHERE service = ''", (service,))
    ((records, span, found, _),) = await writer.execute_fetchall(READABLE)
    if not records == span == found:
        raise StoreSetupError(
            f"{path} is damaged: of its newest {span} positions {records} are readable, and {found} are found by their "
            f"index. {rebuild(service or path.parent.name)}"
        )


async def _check_whole(path: Path, place: StoreFiles) -> None:
    """Check the whole file; if it is damaged, set the place's `trouble`.

    Tries again, after a pause, as long as the file cannot be read for another reason, such as a lock.
    """
    backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
    while True:
        try:
            wrong = await damage(path)
            break
        except sqlite3.Error as error:
            if shows_damage(error):
                wrong = [str(error)]
                break
            logger.warning("the store could not be checked after an unclean stop; trying again", error=str(error))
        await asyncio.sleep(backoff.next_s())
    if wrong:
        place.refuse(f"{path} is damaged: {wrong[0]}")


async def damage(path: Path, check: str = "quick_check") -> list[str]:
    """Read the whole file on a connection of its own; return its first 10 faults in words, or an empty list.

    `check` is SQLite's pragma: `integrity_check` also compares each index with its table, and takes several times
    longer. Raises sqlite3.Error.
    """
    async with connect_read_only(path) as own:
        try:
            rows = await own.execute_fetchall(f"PRAGMA {check}(10)")
        except asyncio.CancelledError:
            await own.interrupt()
            raise
    return [str(row[0]) for row in rows if row[0] != "ok"]


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
