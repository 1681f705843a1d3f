"""Collects a service's log from EVENTS into a new store.

It proves that no position and no version is missing before the last fact that the stream has of the service.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from contracts.wire import FACTS, POSITION, STREAM, VERSION, fact_id, said_by, subject
from infra.broker.client import header
from infra.store.records import Notification
from infra.store.statements import SCHEMA
from ops import reading
from ops.errors import Found
from ops.reading import Read, Stream

INSERT: Final = (
    "INSERT OR IGNORE INTO stored_events (rowid, originator_id, originator_version, topic, state) VALUES (?,?,?,?,?)"
)
OUT_OF_ORDER: Final = """
SELECT rowid, originator_id, originator_version, turn
FROM (
    SELECT rowid, originator_id, originator_version,
           row_number() OVER (PARTITION BY originator_id ORDER BY rowid) AS turn
    FROM stored_events)
WHERE originator_version != turn ORDER BY rowid LIMIT 1
"""
FIRST_GAP: Final = """
SELECT min(rowid) + 1 FROM (SELECT 0 AS rowid UNION ALL SELECT rowid FROM stored_events) AS here
WHERE NOT EXISTS (SELECT 1 FROM stored_events AS next WHERE next.rowid = here.rowid + 1)
"""

_STREAM: Final = STREAM.encode()
_VERSION: Final = VERSION.encode()
_POSITION: Final = POSITION.encode()


class _Typed(msgspec.Struct):
    type: str


_typed: Final = msgspec.json.Decoder(_Typed)


@contextlib.contextmanager
def new_store(path: Path) -> Iterator[sqlite3.Connection]:
    """Make a new, empty store in this file, in place of any earlier one, and yield it in autocommit mode.

    Nothing is synced to the disk: the store is not in use yet. Raises OSError, sqlite3.Error.
    """
    for file in (path, *journals(path)):
        file.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as store:
        store.execute("PRAGMA journal_mode=OFF")
        store.execute("PRAGMA synchronous=OFF")
        store.executescript(SCHEMA)
        yield store


def journals(path: Path) -> tuple[Path, Path]:
    """The paths of the files that SQLite keeps beside a database in WAL mode: the write-ahead log and its index."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


async def collect(stream: Stream, service: str, store: sqlite3.Connection, told: Callable[[int], None]) -> int:
    """Read all facts of the service from EVENTS, and store each at its position. Returns the number of facts.

    `told` is called with the number of messages of each chunk. Raises Found if no relay wrote a message, if two
    messages contradict each other, or if facts are missing (see `_prove`); the client's errors.
    """
    async with contextlib.aclosing(reading.chunks(stream, [f"{service}.>"])) as chunks:
        async for messages in chunks:
            records = [_record(message, service) for message in messages]
            before = store.total_changes
            store.execute("BEGIN")
            store.executemany(INSERT, records)
            store.execute("COMMIT")
            if store.total_changes - before < len(records):
                _compare(store, messages, records)
            told(len(messages))
    ((count,),) = store.execute("SELECT count(*) FROM stored_events")
    _prove(store, service, count)
    return int(count)


def _record(message: Read, service: str) -> Notification:
    """Make the record that was published as this message. Raises Found if it is no fact of the service."""
    head = message.head
    stream, version, position = header(head, _STREAM), header(head, _VERSION), header(head, _POSITION)
    if not (version.isdecimal() and position.isdecimal() and message.fact_id == fact_id(stream, int(version))):
        raise Found(f"{_place(message)} lacks the headers that a service gives its facts: no service wrote it")
    name = message.subject.rpartition(".")[0]
    try:
        fits = said_by(name) == service and _typed.decode(message.body).type == name
        if name in FACTS:  # a fact of newer code is taken as it is
            fits = fits and subject(name, message.body) == message.subject
    except msgspec.DecodeError:
        fits = False
    if not fits:
        raise Found(f"{_place(message)} has a body that does not fit its subject, {message.subject}")
    return Notification(int(position), stream, int(version), name, message.body)


def _compare(store: sqlite3.Connection, messages: list[Read], records: list[Notification]) -> None:
    """Check messages some of whose records were not inserted, because their position or version was taken.

    Raises Found if the store has another record there: then a message is not a repeat, but contradicts an earlier one.
    """
    for message, record in zip(messages, records, strict=True):
        known = store.execute(
            "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events"
            " WHERE rowid = ? OR (originator_id = ? AND originator_version = ?)",
            (record.position, record.originator_id, record.originator_version),
        ).fetchall()
        if known != [tuple(record)]:
            position, stream, version, *_ = next(row for row in known if row != tuple(record))
            raise Found(
                f"{_place(message)} contradicts an earlier message, {fact_id(stream, version)} of position {position}: "
                "the stream is not the copy of one log"
            )


def _prove(store: sqlite3.Connection, service: str, count: int) -> None:
    """Prove that the log is whole: positions from 1 to `count`, and each stream's versions from 1, in order.

    Raises Found if a position or version is missing, a version is out of order, or `count` is 0.
    """
    if count == 0:
        raise Found(f"the stream has no fact of {service}_svc: there is nothing to rebuild its store from")
    ((gap,),) = store.execute(FIRST_GAP)
    if gap <= count:
        raise Found(
            f"the stream lacks position {gap} of {service}_svc's log: start the service: its relay publishes it"
        )
    out_of_order = store.execute(OUT_OF_ORDER).fetchone()
    if out_of_order is not None:
        position, stream, version, turn = out_of_order
        raise Found(f"{fact_id(stream, version)} is at position {position}, where version {turn} must be")


def _place(message: Read) -> str:
    return f"stream, sequence {message.sequence}, {message.fact_id or 'a message without an id'}"
