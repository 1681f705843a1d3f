"""Copies the services' stores beside the running services, up to one consistent cut.

The copies are made one after another, so a later one may have a fact whose cause an earlier one lacks. Such a fact, and
all that its service recorded after it, is left out: together the copies are a state that the system could have stopped
in. Nothing that was recorded before the first copy was begun is ever left out.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from contracts.fact import DECODE_ERRORS
from contracts.origin import number
from contracts.wire import fact_id
from infra import files
from infra.sqlite_uri import read_only_uri
from infra.store.errors import next_step
from ops.backup.manifest import StoreCopy
from ops.errors import Found, Unreachable
from ops.stores import unreadable

STORE: Final = "events.sqlite"
BUSY_S: Final = 10.0


class _Caused(msgspec.Struct):
    cause: str | None = None


_caused: Final = msgspec.json.Decoder(_Caused)


class _Tail(NamedTuple):
    """A fact in a copy that was recorded after the backup had begun: its position, and the id of its cause."""

    position: int
    cause: str


def copy_all(stores: Mapping[str, Path], folder: Path) -> dict[str, StoreCopy]:
    """Copy each store (service → its file) to `<folder>/<service>/events.sqlite`, up to one consistent cut.

    Returns by service what its copy has. Raises Unreachable if a store cannot be read or copied, maybe because it is
    damaged; Found if a copy is damaged or lacks a position; OSError.
    """
    marks = {service: _last_position(service, path) for service, path in stores.items()}
    for service, path in stores.items():
        files.make_folder(folder / service)
        _copy(service, path, folder / service / STORE)
    with contextlib.ExitStack() as stack, _writing(folder):
        copies = {name: stack.enter_context(_opened(folder / name / STORE)) for name in stores}
        for name, copy in copies.items():
            _check(name, copy)
        left_out = _cut(copies, marks)
        made = {name: _finished(name, copy, left_out[name]) for name, copy in copies.items()}
    for name in stores:
        files.sync_file(folder / name / STORE)
        files.sync_folder(folder / name)
    return made


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)) as connection:
        yield connection


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unreachable(
            f"the copies in {folder} cannot be read or written: {error}. {next_step(error, 'Is its disk damaged?')}. "
            "No backup was made"
        ) from error


@contextlib.contextmanager
def _reading(service: str, path: Path) -> Iterator[sqlite3.Connection]:
    try:
        uri = read_only_uri(path)
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise unreadable(service, path, error) from error


def _last_position(service: str, path: Path) -> int:
    with _reading(service, path) as store:
        ((last,),) = store.execute("SELECT ifnull(max(rowid), 0) FROM stored_events")
        return int(last)


def _copy(service: str, path: Path, to: Path) -> None:
    """Copy a store as of one instant, also while its service writes it. Row ids, and so positions, stay the same."""
    with _reading(service, path) as store:
        try:
            with _opened(to) as copy:
                store.backup(copy)  # in one step, in one read transaction
                copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a write-ahead log beside it
        except sqlite3.Error as error:
            raise Unreachable(f"the store of {service}_svc, {path}, cannot be copied to {to}: {error}") from error
    to.chmod(files.PRIVATE)


def _check(service: str, copy: sqlite3.Connection) -> None:
    """Have SQLite check the whole copy. Raises Found if it is damaged."""
    try:
        wrong = [row[0] for row in copy.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]
    except sqlite3.Error as error:
        wrong = [str(error)]
    if wrong:
        raise _damaged(service, wrong[0])


def _damaged(service: str, why: str) -> Found:
    return Found(
        f"the store of {service}_svc is damaged: {why}. No backup was made; stop the service, rebuild the store "
        f"from the stream (just rebuild {service}), and start it again"
    )


def _cut(copies: Mapping[str, sqlite3.Connection], marks: Mapping[str, int]) -> dict[str, int]:
    """Remove each fact whose cause no copy has, and what its service recorded after it; return how many, by service.

    `marks`: service → the last position before the first copy was begun. Up to there every cause is in the copies.
    """
    removed = dict.fromkeys(copies, 0)
    tails = {name: _tail(copy, marks[name]) for name, copy in copies.items()}
    again = True
    while again:
        again = False
        for name, copy in copies.items():
            orphan = next((record for record in tails[name] if not _has(copies, record.cause)), None)
            if orphan is not None:
                again = True
                removed[name] += _remove(copy, orphan.position)
                tails[name] = [record for record in tails[name] if record.position < orphan.position]
    return removed


def _tail(copy: sqlite3.Connection, mark: int) -> list[_Tail]:
    found = []
    for position, state in copy.execute(
        "SELECT rowid, state FROM stored_events WHERE rowid > ? ORDER BY rowid", (mark,)
    ):
        with contextlib.suppress(*DECODE_ERRORS):
            if cause := _caused.decode(state).cause:
                found.append(_Tail(position, cause))
    return found


def _has(copies: Mapping[str, sqlite3.Connection], cause: str) -> bool:
    stream, _, version = cause.rpartition("@")
    sql = "SELECT 1 FROM stored_events WHERE originator_id = ? AND originator_version = ?"
    return any(copy.execute(sql, (stream, number(version))).fetchone() is not None for copy in copies.values())


def _remove(copy: sqlite3.Connection, first: int) -> int:
    """Remove the records from position `first` on, and the snapshots of states that they are part of.

    Returns how many records were removed.
    """
    copy.execute("BEGIN")
    removed = copy.execute("DELETE FROM stored_events WHERE rowid >= ?", (first,)).rowcount
    copy.execute(
        "DELETE FROM snapshots WHERE originator_version > (SELECT ifnull(max(stored.originator_version), 0)"
        " FROM stored_events AS stored WHERE stored.originator_id = snapshots.originator_id)"
    )
    copy.execute("COMMIT")
    return removed


def _finished(service: str, copy: sqlite3.Connection, left_out: int) -> StoreCopy:
    """Return the copy's entry for the manifest. Raises Found if a position is missing."""
    ((facts, last),) = copy.execute("SELECT count(*), ifnull(max(rowid), 0) FROM stored_events")
    if facts != last:
        raise _damaged(service, f"it has {facts:,} records up to position {last:,}")
    end = copy.execute(
        "SELECT originator_id, originator_version FROM stored_events WHERE rowid = ?", (last,)
    ).fetchone()
    return StoreCopy(f"{service}/{STORE}", _store_id(copy), facts, fact_id(*end) if end else None, left_out)


def _store_id(copy: sqlite3.Connection) -> str:
    """Return the id that the store has in its table `identity`; empty if there is none: older versions made none."""
    try:
        row = copy.execute("SELECT store FROM identity").fetchone()
    except sqlite3.OperationalError:
        return ""
    return str(row[0]) if row else ""
