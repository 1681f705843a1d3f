"""The facts of newer code in a store are found wherever the store is."""

import contextlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.store.statements import SCHEMA
from ops import newer
from ops.backup.manifest import Manifest, StoreCopy, newer_facts
from ops.errors import Found
from tests.infra.test_sqlite_uri import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_store_is_searched_in_any_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "events.sqlite"
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.executescript(SCHEMA)
        body = b'{"type":"point.gifted","at":"2026-03-02T09:00:00Z","cause":null}'
        store.execute("INSERT INTO stored_events VALUES ('account-ann', 1, 'point.gifted', ?)", (body,))

    found = newer.in_store(path)

    assert found.facts == 1
    assert found.first.startswith("account-ann@1 (point.gifted) at position 1")


def test_a_store_of_a_backup_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "point").mkdir()
    (tmp_path / "point" / "events.sqlite").write_bytes(b"no database" * 1_000)
    copies = {"point": StoreCopy("point/events.sqlite", "", 1, None, 0)}
    made = Manifest(1, datetime.now(UTC), copies, {}, {}, {})

    with pytest.raises(Found, match=r"the backup in .* is damaged: point/events\.sqlite cannot be read: file is not"):
        newer_facts(tmp_path, made)
