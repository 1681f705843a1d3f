"""Opens connections to an SQLite file: with WAL and a checked `synchronous` level, or read-only.

Connections raise sqlite3.Error, and ValueError once closed; inside the context `translated`, both become StoreError.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import aiosqlite
from eventsourcing import persistence

from infra.sqlite_uri import read_only_uri
from infra.store.errors import StoreSetupError

BUSY_TIMEOUT_S: Final = 5.0
"""How many seconds a statement waits for another connection's lock before it fails."""

CACHE_KIB: Final = (
    16_384  # of SQLite's pages per connection; its default of 2 MB is less than the hot part of the index
)

LEVELS: Final = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}

T = TypeVar("T")


class StoreConnection(aiosqlite.Connection):
    """A connection that also inserts rows and looks at something else in the same hop to its thread."""

    async def insert(self, sql: str, values: Sequence[Any], look: Callable[[], T]) -> tuple[int, T]:
        """Run this INSERT; return the rowid of the last row that it made, and what `look` then returned.

        `look` is called in the connection's thread, after the commit if no transaction is open. Raises sqlite3.Error.
        """

        def run() -> tuple[int, T]:
            last = self._conn.execute(sql, values).lastrowid
            assert last is not None
            return last, look()

        found: tuple[int, T] = await self._execute(run)  # type: ignore[no-untyped-call]
        return found


ConnectStore = Callable[[Path], AbstractAsyncContextManager[StoreConnection]]


@asynccontextmanager
async def connect(
    path: Path, synchronous: str = "FULL", busy_timeout_s: float = BUSY_TIMEOUT_S
) -> AsyncIterator[StoreConnection]:
    """Open the SQLite file, made if missing, in autocommit and WAL mode at this `synchronous` level (a name in LEVELS).

    Closes the connection at the end. Raises sqlite3.Error if the file cannot be opened; StoreSetupError if SQLite does
    not set this mode and level.
    """
    async with _opened(path, busy_timeout_s=busy_timeout_s) as connection:
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


async def _pragma(connection: StoreConnection, text: str) -> tuple[Any, ...]:
    rows = list(await connection.execute_fetchall(f"PRAGMA {text}"))
    return tuple(rows[0]) if rows else ()


@asynccontextmanager
async def connect_read_only(path: Path) -> AsyncIterator[StoreConnection]:
    """Open the existing SQLite file for reading only, and close it at the end.

    Raises sqlite3.Error if it is missing or cannot be opened.
    """
    async with _opened(read_only_uri(path), uri=True, busy_timeout_s=BUSY_TIMEOUT_S) as connection:
        yield connection


@asynccontextmanager
async def _opened(database: Path | str, *, busy_timeout_s: float, uri: bool = False) -> AsyncIterator[StoreConnection]:
    """Open a connection in autocommit mode, and close it at the end. Raises sqlite3.Error."""
    # Opened here rather than by aiosqlite's thread: that thread would outlive a failure, and a caller that is canceled
    # while it waits for the thread would leave the connection open.
    opened = sqlite3.connect(database, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, uri=uri)
    with closing(opened):
        # Without the close at the end, aiosqlite's thread would keep the process alive for ever.
        connection = StoreConnection(lambda: opened, iter_chunk_size=64)
        async with connection:
            yield connection


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
