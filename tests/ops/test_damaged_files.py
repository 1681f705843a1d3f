"""Files beside the stores may have any bytes: what reads one names it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.export.cursor import CursorFile
from infra.export.errors import SinkError
from infra.store import vocabulary
from infra.store.identity import outside
from ops import stores
from ops.audit import report
from ops.backup import manifest, store_copies
from ops.errors import Unreachable
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


def read_by(env: dict[str, str], reader: str) -> None:
    """Read the log of point_svc as the commands do, or as the backup does."""

    async def by_commands() -> None:
        async with stores.log(env, "point") as log:
            await log.max_notification_id()

    if reader == "backup":
        store_copies.copy_all({"point": stores.store(env, "point")}, Path(env["DATA_DIR"]) / "copy")
    else:
        asyncio.run(by_commands())


@pytest.mark.parametrize("reader", ["commands", "backup"])
def test_a_lost_store_is_told_from_one_that_never_was(tmp_path: Path, reader: str) -> None:
    env = {"DATA_DIR": str(tmp_path)}
    with pytest.raises(Unreachable, match=r"the log of point_svc cannot be read: .*Has it run with this DATA_DIR\?"):
        read_by(env, reader)

    outside(stores.store(env, "point"), "point").write_text("the-id\n")

    with pytest.raises(Unreachable, match=r"has recorded in it: put it back, or .*just rebuild point"):
        read_by(env, reader)


@pytest.mark.parametrize("reader", ["commands", "backup"])
def test_a_store_that_is_no_database_is_named_with_the_way_out(tmp_path: Path, reader: str) -> None:
    env = {"DATA_DIR": str(tmp_path)}
    path = stores.store(env, "point")
    path.parent.mkdir()
    path.write_bytes(b"Dear diary" * 1_000)

    with pytest.raises(Unreachable, match=r"not a database\. If it is damaged: .*just rebuild point; --lose-damaged"):
        read_by(env, reader)
