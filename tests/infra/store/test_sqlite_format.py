"""The file is one that the `eventsourcing` library's own recorder reads and writes."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteAggregateRecorder, SQLiteApplicationRecorder, SQLiteDatastore

from infra.store.sqlite import SQLiteStore
from tests.infra.records import record, records, streams_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "point" / "events.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    async with SQLiteStore.open(path) as opened:
        yield opened


@pytest.fixture
def datastore(path: Path) -> Iterator[SQLiteDatastore]:
    datastore = SQLiteDatastore(str(path), originator_id_type="text")
    yield datastore
    datastore.close()


async def test_the_librarys_recorder_reads_our_file(store: SQLiteStore, datastore: SQLiteDatastore) -> None:
    await store.insert_events([record("a", 1, "x"), record("b", 1, "y"), record("a", 2, "y")])
    await store.insert_snapshots([record("a", 2, "snapshot.1")])

    recorder = SQLiteApplicationRecorder(datastore)
    recorder.create_table()
    snapshots = SQLiteAggregateRecorder(datastore, "snapshots")

    assert recorder.max_notification_id() == 3
    assert [(n.id, n.originator_id, n.topic) for n in recorder.select_notifications(1, 10)] == [
        (1, "a", "x"),
        (2, "b", "y"),
        (3, "a", "y"),
    ]
    assert recorder.select_events("a") == [StoredEvent(*record("a", 1, "x")), StoredEvent(*record("a", 2, "y"))]
    assert snapshots.select_events("a", desc=True, limit=1) == [StoredEvent(*record("a", 2, "snapshot.1"))]


async def test_we_read_a_file_that_the_librarys_recorder_wrote(path: Path, datastore: SQLiteDatastore) -> None:
    path.parent.mkdir()
    recorder = SQLiteApplicationRecorder(datastore)
    recorder.create_table()
    recorder.insert_events([StoredEvent(*stored) for stored in records("a", range(1, 4))])

    async with SQLiteStore.open(path) as store:
        assert await streams_of(store) == [("a", 1), ("a", 2), ("a", 3)]
        await store.insert_events([record("a", 4)])

    assert [n.id for n in recorder.select_notifications(None, 10)] == [1, 2, 3, 4]


async def test_a_newer_snapshot_replaces_older_ones(store: SQLiteStore, path: Path) -> None:
    await store.insert_snapshots([record("a", 1_000, "snapshot.1"), record("b", 1_000, "snapshot.1")])
    await store.insert_snapshots([record("a", 2_000, "snapshot.1")])
    await store.insert_snapshots([record("a", 2_000, "snapshot.2")])

    with contextlib.closing(sqlite3.connect(path)) as file:
        found = file.execute("SELECT originator_id, originator_version, topic FROM snapshots ORDER BY 1").fetchall()
    assert found == [("a", 2_000, "snapshot.2"), ("b", 1_000, "snapshot.1")]
