"""A file is opened for reading whatever characters its path has, and only one place makes such a URI."""

import contextlib
import re
import sqlite3
from pathlib import Path

import pytest

from infra.local.services import ROOT
from infra.sqlite_uri import read_only_uri
from infra.store.connection import connect_read_only

NAMES = ["a?b", "a#b", "a%62", "100%", "a b", "a&mode=rwc", "file:a", "ü"]


@pytest.fixture(params=NAMES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param) / str(request.param)
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.execute("CREATE TABLE things (one)")
    return path


@pytest.mark.parametrize("immutable", [False, True])
def test_any_path_can_be_opened_for_reading(made: Path, immutable: bool) -> None:
    with contextlib.closing(sqlite3.connect(read_only_uri(made, immutable=immutable), uri=True)) as opened:
        assert opened.execute("SELECT name FROM sqlite_master").fetchall() == [("things",)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            opened.execute("DROP TABLE things")
    assert list(made.parent.parent.iterdir()) == [made.parent]


async def test_any_path_can_be_connected_to_for_reading(made: Path) -> None:
    async with connect_read_only(made) as connection:
        assert list(await connection.execute_fetchall("SELECT name FROM sqlite_master")) == [("things",)]


def test_no_other_place_makes_a_uri_of_a_path() -> None:
    uri = re.compile(r"""["']file:|\.as_uri\(""")
    places = [
        str(path.relative_to(ROOT))
        for folder in ("contracts", "infra", "ops", "bench", *(path.name for path in sorted(ROOT.glob("*_svc"))))
        for path in sorted((ROOT / folder).rglob("*.py"))
        if uri.search(path.read_text())
    ]
    assert places == ["infra/sqlite_uri.py"]
