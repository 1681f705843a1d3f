"""Opens connections to an SQLite file: with WAL and a checked `synchronous` level, or read-only.

They raise sqlite3.Error; inside the context `translated`, it becomes StoreError.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import aiosqlite
from eventsourcing import persistence

from infra.store.errors import StoreSetupError

BUSY_TIMEOUT_S: Final = 5.0
"""How long a statement waits for another connection's lock before it fails."""

CACHE_KIB: Final = (
    16_384  # of SQLite's pages per connection; its default of 2 MB is less than the hot part of the index
)

LEVELS: Final = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}

ConnectStore = Callable[[Path], AbstractAsyncContextManager[aiosqlite.Connection]]


@asynccontextmanager
async def connect(
    path: Path, synchronous: str = "FULL", busy_timeout_s: float = BUSY_TIMEOUT_S
) -> AsyncIterator[aiosqlite.Connection]:
    """Open the SQLite file, made if missing, in autocommit and WAL mode at this `synchronous` level (a name in LEVELS).

    Raises sqlite3.Error if the file cannot be opened; StoreSetupError if SQLite does not set this mode and level.
    """
    # Fails here rather than in aiosqlite, which would leave a thread behind that outlives the event loop.
    sqlite3.connect(path).close()
    # Without the close at the end, aiosqlite's thread would keep the process alive for ever.
    async with aiosqlite.connect(path, isolation_level=None, timeout=busy_timeout_s) as connection:
        await _pragma(connection, "journal_mode=WAL")
        await _pragma(connection, f"synchronous={synchronous}")
        await _pragma(connection, f"cache_size=-{CACHE_KIB}")
        (mode,) = await _pragma(connection, "journal_mode")
        (level,) = await _pragma(connection, "synchronous")
        if mode != "wal" or LEVELS[level] != synchronous:
            raise StoreSetupError(
                f"{path}: wanted journal_mode=wal and synchronous={synchronous}, but got {mode} and {LEVELS[level]}. "
                "Is the file on a file system that SQLite's WAL can use?"
            )
        yield connection


async def _pragma(connection: aiosqlite.Connection, text: str) -> tuple[Any, ...]:
    rows = list(await connection.execute_fetchall(f"PRAGMA {text}"))
    return tuple(rows[0]) if rows else ()


@asynccontextmanager
async def connect_read_only(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """Open the existing SQLite file for reading only. Raises sqlite3.Error if it is missing or cannot be opened."""
    uri = _read_only(path)
    sqlite3.connect(uri, uri=True).close()  # as above: fails here, before aiosqlite starts its thread
    async with aiosqlite.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S) as connection:
        yield connection


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


@contextmanager
def translated() -> Iterator[None]:
    """Turn sqlite3.Error and ValueError inside the context into StoreError, and a violated constraint into Conflict."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise persistence.IntegrityError(error) from error
    except sqlite3.OperationalError as error:
        raise persistence.OperationalError(error) from error
    except sqlite3.Error as error:
        raise persistence.PersistenceError(error) from error
    except ValueError as error:  # aiosqlite's "no active connection"
        raise persistence.InterfaceError(error) from error
