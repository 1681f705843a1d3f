"""Proves that a store's file is its service's own, and that the write-ahead log beside the file belongs to it.

The table `identity` has the store's id and its service. The id is also in the file `<service>.identity` beside the
service's folder. So a store in another one's place is found before anything is recorded.

SQLite replays whatever write-ahead log lies beside a file. So the table has three more values, which `Checkpointer`
changes. `wal` names the present write-ahead log. `ending` is made anew, greater each time, before it moves a log. When
the whole log was moved and nobody reads, the next one begins. `follows` is the last `ending` of the log before. A log
belongs to the file if the file's `ending` is what the log follows, or if a part of the same log has been moved into
the file.
"""

import contextlib
import re
import sqlite3
import uuid
from pathlib import Path
from typing import Final, NamedTuple

from infra.sqlite_uri import read_only_uri
from infra.store.errors import StoreSetupError, next_step, rebuild

TABLE: Final = """
CREATE TABLE IF NOT EXISTS identity (
    one INTEGER PRIMARY KEY, store TEXT, service TEXT, wal TEXT, ending TEXT, follows TEXT);
"""
FIELDS: Final = "store, service, wal, ending, follows"
IS_ID: Final = re.compile(rb"([0-9a-f]{32})?\s*").fullmatch
"""Matches the content of a file `<service>.identity`."""
INSERT: Final = "INSERT OR IGNORE INTO identity VALUES (1, ?, ?, ?, ?, '')"


class Identity(NamedTuple):
    """The row of the table `identity`: the ids of store and write-ahead log, and what the module says of the others."""

    store: str
    service: str
    wal: str
    ending: str
    follows: str


class Examined(NamedTuple):
    """A store that may be opened. `store`: its id, a new one if it has none yet.

    `unclean`: its write-ahead log is not empty: its last process was killed, or another one has or had the file open.
    """

    store: str
    unclean: bool


def new_id() -> str:
    return uuid.uuid4().hex


def companions(path: Path) -> tuple[Path, Path]:
    """Return the paths of what SQLite keeps beside a database in WAL mode: the write-ahead log and the log's index."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def outside(path: Path, service: str) -> Path:
    """Return the path of the file, beside the store's folder, that has the store's id: `<service>.identity`.

    `path`: the store's own file, which need not be there.
    """
    return path.parent.with_name(f"{service}.identity")


def assign(connection: sqlite3.Connection, path: Path, service: str) -> None:
    """Give the new store at `connection` an identity with the id of the store in `path`, which it will replace.

    That id is the one that is known outside, or else the old file's, or else a new one.
    Raises StoreSetupError as `known_id`; OSError, sqlite3.Error.
    """
    old = None
    with contextlib.suppress(sqlite3.Error):  # missing or damaged
        old = read(path)
    store = known_id(path, service) or (old.store if old else new_id())
    connection.execute(INSERT, (store, service, new_id(), next_ending("")))


def known_id(path: Path, service: str) -> str:
    """Return the id that the store of this service must have: what the file that `outside` names has.

    Empty if that file is missing or empty. Raises StoreSetupError if that file has anything but an id; OSError.
    """
    file = outside(path, service)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return ""
    if not IS_ID(content):
        raise StoreSetupError(
            f"{file} is damaged: it has no store's id, but {content[:40]!r}. If {path} is the right store, remove "
            f"{file}: it is made again"
        )
    return content.decode().strip()


def examine(path: Path, service: str) -> Examined:
    """Prove that the store in `path` may be opened, without changing it. `service`: whose it must be; empty: anybody's.

    A missing file may be made if it left no trace. Raises StoreSetupError if a missing file left its id or its log.
    Raises it, too, if the file is unreadable, is another store's or another service's, or has a write-ahead log that is
    not its own. Raises it as `known_id` does. Raises OSError.
    """
    known = known_id(path, service) if service else ""
    wal, _ = companions(path)
    unclean = wal.exists() and wal.stat().st_size > 0
    if not path.exists():
        _refuse_missing(path, service, known, unclean=unclean)
        return Examined(known or new_id(), unclean=False)
    if not path.is_file():
        raise StoreSetupError(f"{path}: unable to open, this is not a file. {_ways_out(path, service)}")
    try:
        in_file = read(path, alone=True)
        found = read(path) if unclean else in_file
        if found is None and service:
            _refuse_foreign_log(path, service)
    except sqlite3.Error as error:
        damaged = rebuild(service or path.parent.name)
        raise StoreSetupError(f"{path}: {error}. {next_step(error, damaged)}") from error
    if service and found is not None and found.service not in ("", service):
        raise StoreSetupError(f"{path} is the store of {found.service}_svc. {_ways_out(path, service)}")
    if known and (found is None or found.store != known):
        has = "has no identity" if found is None else f"is store {found.store}"
        raise StoreSetupError(
            f"{path} {has}, but {service}_svc has recorded in store {known}. {_ways_out(path, service)} "
            f"To continue with this store all the same, remove {outside(path, service)}."
        )
    if unclean and not belongs(in_file, found):
        raise StoreSetupError(
            f"{wal} is not the write-ahead log of {path.name} beside it: the file was replaced, and the log is left of "
            f"the one before. Move {wal.name} away and start again; if the stream then has more than the store, "
            f"rebuild it (just rebuild {service or path.parent.name})."
        )
    return Examined(found.store if found else known or new_id(), unclean)


def read(path: Path, *, alone: bool = False) -> Identity | None:
    """Read the identity; None: the file has none. `alone`: from the file itself, without its write-ahead log.

    Raises sqlite3.Error.
    """
    with contextlib.closing(sqlite3.connect(read_only_uri(path, immutable=alone), uri=True)) as connection:
        if alone:
            # While somebody reads, a part of a log is moved: the file can then name pages that it has not yet.
            connection.execute("PRAGMA writable_schema = ON")
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'identity'").fetchone()
        if tables == (0,):
            return None
        row = connection.execute(f"SELECT {FIELDS} FROM identity").fetchone()
        return None if row is None else Identity(*row)


def belongs(in_file: Identity | None, found: Identity | None) -> bool:
    """Whether the log belongs to the file: `in_file` is the identity read without the log, `found` with the log."""
    if in_file is None or found is None:
        # The first process was killed before it had moved its first log into the file, or an older version made both.
        return found is None or found.follows == ""
    moved = in_file.wal == found.wal and in_file.ending <= found.ending
    return in_file.store == found.store and (moved or in_file.ending == found.follows)


def next_ending(ending: str) -> str:
    """Return a new `ending`, greater than this one as text, that no other store has. Empty: return a store's first."""
    return f"{int(ending[:12] or 0) + 1:012d}-{new_id()}"


def _refuse_missing(path: Path, service: str, known: str, *, unclean: bool) -> None:
    if known:
        raise StoreSetupError(
            f"{path} is missing, but {service}_svc has recorded in it (store {known}). Put it back, or rebuild it from "
            f"the stream (just rebuild {service}). To begin a new history, remove {outside(path, service)}."
        )
    if unclean:
        wal, _ = companions(path)
        raise StoreSetupError(f"{path} is missing, but its write-ahead log {wal.name} is there: put the file back, too")


def _refuse_foreign_log(path: Path, service: str) -> None:
    """Check a store without an identity, which an older version made.

    Raises StoreSetupError if another service than `service` says its first fact; sqlite3.Error.
    """
    with contextlib.closing(sqlite3.connect(read_only_uri(path), uri=True)) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'stored_events'").fetchone()
        row = tables == (1,) and connection.execute("SELECT topic FROM stored_events WHERE rowid = 1").fetchone()
    said_by = row[0].partition(".")[0] if row else service
    if said_by != service:
        raise StoreSetupError(f"{path} is the log of {said_by}_svc. {_ways_out(path, service)}")


def _ways_out(path: Path, service: str) -> str:
    name = service or path.parent.name
    return f"Put the right file back, or move this one away and rebuild it from the stream (just rebuild {name})."
