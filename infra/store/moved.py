"""Facts that older code recorded in another stream than the one they belong to today: found by today's stream.

Nothing recorded is rewritten. Instead the table `moved` maps today's stream to the positions of such facts. It is made
when a store is opened: once from the whole log, and later from what older code added after a rollback. A partial index
for each category keeps that cheap: it contains only such facts.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
import structlog

from contracts.wire import decode
from infra.store.connection import StoreConnection
from infra.store.records import Record

logger = structlog.get_logger()

Moved = Mapping[str, Collection[str]]
"""Category of streams → the names of the facts that older code recorded in streams of other categories."""

TABLES: Final = """
CREATE TABLE IF NOT EXISTS moved (stream TEXT, position INTEGER, PRIMARY KEY (stream, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS moved_until (topic TEXT PRIMARY KEY, position INTEGER) WITHOUT ROWID;
"""
INSERT: Final = """
INSERT OR IGNORE INTO moved SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
"""
UNTIL: Final = "INSERT OR REPLACE INTO moved_until VALUES (?, ?)"
SELECT: Final = """
WITH wanted(stream) AS (SELECT value FROM json_each(?))
SELECT wanted.stream, stored_events.originator_id, originator_version, topic, state
FROM wanted CROSS JOIN moved ON moved.stream = wanted.stream
    CROSS JOIN stored_events ON stored_events.rowid = moved.position
ORDER BY moved.stream, moved.position
"""
SELECT_ONE: Final = """
SELECT stored_events.rowid, originator_id, originator_version, topic, state
FROM moved CROSS JOIN stored_events ON stored_events.rowid = moved.position
WHERE moved.stream = ? ORDER BY moved.position
"""
IS_INDEXED: Final = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'moved')"
CHUNK: Final = 5_000
"""The most records that are read at once, and whose places are stored in one transaction."""


async def index(connection: StoreConnection, moved: Moved) -> bool:
    """Bring the table `moved` up to date; return whether it has any row. With an empty `moved`, only return False.

    Raises sqlite3.Error. The first time this reads the whole log, and takes about 10 s for a million facts that have
    moved.
    """
    if not moved:
        return False
    await connection.executescript(TABLES)
    await _cut(connection)
    found = 0
    for category, topics in moved.items():
        condition = f"topic IN ({_quoted(topics)}) AND originator_id NOT GLOB {_quoted([f'{category}-*'])}"
        await connection.execute(
            f"CREATE INDEX IF NOT EXISTS moved_to_{category} ON stored_events (topic) WHERE {condition}"
        )
        for topic in topics:
            found += await _index_topic(connection, category, condition, topic)
    if found:
        logger.info("facts of an older form were found: each key of theirs is read before deciding")
    ((has_moved,),) = await connection.execute_fetchall("SELECT EXISTS (SELECT 1 FROM moved)")
    return bool(has_moved)


async def _cut(connection: StoreConnection) -> None:
    """Forget what `moved` and `moved_until` have beyond the log's end: a restored log may be shorter.

    Each change is committed at once; the next call completes what was cut short.
    """
    ((last, known),) = await connection.execute_fetchall(
        "SELECT (SELECT ifnull(max(rowid), 0) FROM stored_events),"
        " max((SELECT ifnull(max(position), 0) FROM moved), (SELECT ifnull(max(position), 0) FROM moved_until))"
    )
    if known > last:
        await connection.execute("DELETE FROM moved WHERE position > ?", (last,))
        await connection.execute("UPDATE moved_until SET position = ? WHERE position > ?", (last, last))


async def _index_topic(connection: StoreConnection, category: str, condition: str, topic: str) -> int:
    """Add to the table `moved` what the log has of this topic since the last time; return how many facts were added.

    Only facts that were recorded in another stream than today's are added.
    """
    rows = list(await connection.execute_fetchall("SELECT position FROM moved_until WHERE topic = ?", (topic,)))
    after = rows[0][0] if rows else 0
    found = 0
    while True:
        records = list(
            await connection.execute_fetchall(
                f"SELECT rowid, originator_id, state FROM stored_events INDEXED BY moved_to_{category}"
                f" WHERE {condition} AND topic = ? AND rowid > ? ORDER BY rowid LIMIT {CHUNK}",
                (topic, after),
            )
        )
        if not records:
            return found
        places = list(_places(map(tuple, records)))
        await connection.execute(INSERT, (json.dumps(places),))
        after = records[-1][0]
        await connection.execute(UNTIL, (topic, after))
        found += len(places)


def _places(records: Iterable[tuple[Any, ...]]) -> Iterator[tuple[str, int]]:
    """Yield today's stream and the position of each fact that was recorded in another stream.

    An unreadable record is left out: the stream in which it was recorded cannot be folded either.
    """
    for position, recorded_in, body in records:
        try:
            stream = decode(body).stream
        except msgspec.DecodeError:
            continue
        if stream != recorded_in:
            yield stream, position


async def select(connection: StoreConnection, streams: Collection[str]) -> dict[str, list[Record]]:
    """Return the moved facts of these streams by today's stream, in log order. Streams without any are left out.

    Raises sqlite3.Error, also if the table was never made.
    """
    found: dict[str, list[Record]] = {}
    rows: Iterable[Any] = await connection.execute_fetchall(SELECT, (json.dumps(list(streams)),))
    for stream, *columns in rows:
        found.setdefault(stream, []).append(Record(*columns))
    return found


def _quoted(texts: Iterable[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts)
