"""Collects a service's log from EVENTS into a new store.

It proves that no position and no version is missing before the last fact that the stream has of the service.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from contracts.newer import OfNewerCode
from contracts.wire import fact_id, why_newer
from infra.store.errors import next_step
from infra.store.records import Notification
from infra.store.statements import SCHEMA
from ops import reading
from ops.errors import Found, Unreachable
from ops.foreign import KnownForeign
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
AT: Final = (
    "SELECT rowid, originator_id, originator_version, topic, state FROM {} WHERE rowid = ?"
    " OR (originator_id = ? AND originator_version = ?)"
)


class Collected(NamedTuple):
    """How many facts were collected, and how many messages were passed over because no service published them.

    `newer`: how many of the facts newer code recorded; like all facts they are collected byte for byte. `first_newer`:
    a text, where the first of them is, and what of it this code does not know; empty: there is none.
    """

    facts: int
    foreign: int
    newer: int = 0
    first_newer: str = ""


@contextlib.contextmanager
def new_store(path: Path) -> Iterator[sqlite3.Connection]:
    """Make a new, empty store in this file, in place of any earlier one, and yield it in autocommit mode.

    Nothing is synced to the disk: the store is not in use yet. Raises OSError, and Unreachable in place of the block's
    sqlite3.Error.
    """
    for file in (path, *journals(path)):
        file.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as store:
            store.execute("PRAGMA journal_mode=OFF")
            store.execute("PRAGMA synchronous=OFF")
            store.executescript(SCHEMA)
            yield store
    except sqlite3.Error as error:
        step = next_step(error, "See the log of the machine (dmesg)")
        raise Unreachable(f"the new store, {path}, cannot be written: {error}. {step}. Nothing was replaced") from error


def journals(path: Path) -> tuple[Path, Path]:
    """Return the paths of the files that SQLite keeps beside the database `path`: the write-ahead log and its index."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


async def collect(
    stream: Stream,
    service: str,
    store: sqlite3.Connection,
    told: Callable[[int], None],
    *,
    known: KnownForeign,
    old: Path | None = None,
) -> Collected:
    """Read all facts of the service from EVENTS, and put each into `store` at its position.

    Foreign messages are passed over, also the acknowledged ones that are `known`. If two messages contradict each
    other, that one is foreign which the store in the file `old` does not have, if that store can be read. `told` is
    called with the number of messages of each chunk. Raises Found if the old store cannot tell, or if facts are missing
    (see `_prove`); ConsumerFailed, ArchiveDamaged, the client's errors, sqlite3.Error.
    """
    foreign, newer, first_newer = 0, set[int](), ""
    async with contextlib.aclosing(reading.chunks(stream, [f"{service}.>"])) as chunks:
        async for messages in chunks:
            found = [(message, record) for message in messages if (record := _record(message, known)) is not None]
            for _, record in found:
                if (why := why_newer(record.topic, record.state)) is not None:
                    newer.add(record.position)
                    first_newer = first_newer or _newer(record, why)
            before = store.total_changes
            store.execute("BEGIN")
            store.executemany(INSERT, [record for _, record in found])
            store.execute("COMMIT")
            if store.total_changes - before < len(found):
                foreign += sum(_is_foreign(store, old, message, record) for message, record in found)
            foreign += len(messages) - len(found)
            told(len(messages))
    ((count,),) = store.execute("SELECT count(*) FROM stored_events")
    _prove(store, service, count)
    return Collected(int(count), foreign, len(newer), first_newer)


def _newer(record: Notification, why: OfNewerCode) -> str:
    its_id = fact_id(record.originator_id, record.originator_version)
    return f"{its_id} ({record.topic}) at position {record.position}: {why.what}"


def _record(message: Read, known: KnownForeign) -> Notification | None:
    """Make the record that was published as this message; None if it is foreign."""
    where = known.judge(message).origin
    if where is None:
        return None
    return Notification(where.position, where.stream, where.version, message.subject.rpartition(".")[0], message.body)


def _is_foreign(store: sqlite3.Connection, old: Path | None, message: Read, record: Notification) -> bool:
    """Compare a message's record with those that the new store has at its position, or of its stream and version.

    Another one there means that one of the two is foreign: the one that the old store does not have. The new store
    keeps or gets the other one. Returns whether there was a foreign one. Raises Found if the old store does not tell
    which one that is.
    """
    place = (record.position, record.originator_id, record.originator_version)
    others = [row for row in store.execute(AT.format("stored_events"), place) if row != tuple(record)]
    if not others:
        return False  # a repeat, or the only one
    kept = _kept(store, old, place)
    if kept == [tuple(record)]:
        store.executemany("DELETE FROM stored_events WHERE rowid = ?", [row[:1] for row in others])
        store.execute(INSERT, record)
        return True
    if kept and all(other in kept for other in others):
        return True
    position, stream, version, *_ = others[0]
    raise Found(
        f"{_place(message)} contradicts an earlier message, {fact_id(stream, version)} of position {position}: "
        f"the stream is not the copy of one log. If a person has judged one of the two to be foreign: "
        f"just audit --foreign {message.sequence}"
    )


def _kept(store: sqlite3.Connection, old: Path | None, place: tuple[int, str, int]) -> list[tuple[object, ...]]:
    """Return the old store's records at this position, or of this stream and version.

    The list is empty if there is no old store, or if it cannot be read.
    """
    if old is None or not old.exists():
        return []
    try:
        store.execute("ATTACH ? AS old", (str(old),))
        return store.execute(AT.format("old.stored_events"), place).fetchall()
    except sqlite3.DatabaseError:
        return []
    finally:
        with contextlib.suppress(sqlite3.DatabaseError):  # it was not attached
            store.execute("DETACH old")


def _prove(store: sqlite3.Connection, service: str, count: int) -> None:
    """Prove that the log is whole: positions from 1 to `count`, and each stream's versions from 1, in order.

    Raises Found if a position or version is missing, a version is out of order, or `count` is 0.
    """
    if count == 0:
        raise Found(f"the stream has no fact of {service}_svc: there is nothing to rebuild its store from")
    ((gap,),) = store.execute(FIRST_GAP)
    if gap <= count:
        raise Found(
            f"the stream lacks position {gap} of {service}_svc's log, and has later ones: start the service, and its "
            "relay publishes it. If no log ever had the later ones, they are foreign: `just audit` names them"
        )
    out_of_order = store.execute(OUT_OF_ORDER).fetchone()
    if out_of_order is not None:
        position, stream, version, turn = out_of_order
        raise Found(f"{fact_id(stream, version)} is at position {position}, where version {turn} must be")


def _place(message: Read) -> str:
    return f"stream, sequence {message.sequence}, {message.fact_id or 'a message without an id'}"
