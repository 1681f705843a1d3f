"""Files beside the stores may have any bytes: what reads one names it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.export.cursor import CursorFile
from infra.export.errors import SinkError
from infra.store import vocabulary
from ops.audit import report
from ops.backup import manifest
from ops.foreign import KnownForeign, NoForeignFile

DEEP = b"[" * 100_000
READERS: list[tuple[str, Callable[[Path], Any], type[Exception], bytes]] = [
    ("report.json", report.read, report.NotAReport, b'{"verdict":"\xff"}'),
    ("manifest.json", lambda file: manifest.read(file.parent), manifest.NotABackup, b'{"format":1,"made_at":"\xff"}'),
    ("foreign.json", KnownForeign.read, NoForeignFile, b'[{"subject":"\xff"}]'),
    ("cursor.json", lambda file: CursorFile(file, "http://receiver").read(), SinkError, b'{"receiver":"\xff"}'),
]


@pytest.mark.parametrize(("name", "read", "error", "odd"), READERS)
@pytest.mark.parametrize("damage", ["no JSON", "not UTF-8", "nested too deeply"])
def test_a_damaged_file_is_named(
    tmp_path: Path, name: str, read: Callable[[Path], Any], error: type[Exception], odd: bytes, damage: str
) -> None:
    file = tmp_path / name
    file.write_bytes({"no JSON": b"{", "not UTF-8": odd, "nested too deeply": b'{"x":' + DEEP}[damage])

    with pytest.raises(error, match=name if error is not manifest.NotABackup else manifest.NAME):
        read(file)


@pytest.mark.parametrize("damaged", [b"{", b'[{"after":1,"words":["\xff"]}]', DEEP])
def test_a_damaged_vocabulary_counts_as_none(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / vocabulary.NAME).write_bytes(damaged)

    assert vocabulary.read(tmp_path) is None
