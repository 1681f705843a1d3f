"""SQL of a store: the tables of facts, snapshots, checks and identity; the append of records; the read of streams."""

from functools import lru_cache
from typing import Final

from infra.store import identity

SCHEMA: Final = (
    """
CREATE TABLE IF NOT EXISTS stored_events (
    originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB,
    PRIMARY KEY (originator_id, originator_version));
CREATE TABLE IF NOT EXISTS snapshots (
    originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB,
    PRIMARY KEY (originator_id, originator_version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checks (one INTEGER PRIMARY KEY, at INTEGER);
"""
    + identity.TABLE
)

SELECT_STREAMS: Final = """
WITH wanted(stream) AS (SELECT value FROM json_each(:streams)),
     latest AS (
         SELECT originator_id AS stream, max(originator_version) AS version, topic, state
         FROM snapshots
         WHERE originator_id IN (SELECT stream FROM wanted) AND topic IN (SELECT value FROM json_each(:topics))
         GROUP BY originator_id)
SELECT 0, stream, version, topic, state FROM latest
UNION ALL
SELECT 1, originator_id, originator_version, topic, state
FROM wanted CROSS JOIN stored_events ON originator_id = wanted.stream
WHERE originator_version > ifnull((SELECT version FROM latest WHERE latest.stream = wanted.stream), 0)
ORDER BY 2, 1, 3
"""


@lru_cache
def insert(rows: int) -> str:
    """Return the INSERT of this many records, at least one, with four parameters for each."""
    return "INSERT INTO stored_events VALUES " + ",".join(["(?,?,?,?)"] * rows)
