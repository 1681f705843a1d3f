"""An export killed between any two of its steps, and started again, leaves what one from zero leaves."""

from pathlib import Path

import pytest

from tests.forked import run
from tests.infra.export.commands import export_once
from tests.infra.export.orders import append, environment, exported, files, logged, mixed, plain
from tests.infra.export.readers import all_read
from tests.infra.export.receiver import Receiver

FILES = ["in hand", "written", "synced", "named", "committed"]
HTTP = ["in hand", "sent", "written", "synced", "named"]


async def crash(env: dict[str, str], step: str, *arguments: str, after: int = 3) -> None:
    crashing = env | {"CRASH_AT": step, "CRASH_AFTER": str(after)}
    ended = await run("tests.wrappers.export_crash", "export", "--once", *arguments, env=crashing)
    assert ended.returncode == -9, ended.stderr


@pytest.fixture
async def env(tmp_path: Path) -> dict[str, str]:
    await append(tmp_path, mixed(30))
    # Files of a few rows; the third one reaches midnight.
    return environment(tmp_path, EXPORT_FILE_BYTES="4000")


@pytest.mark.parametrize("step", FILES)
async def test_killed_while_it_writes_files(step: str, tmp_path: Path, env: dict[str, str]) -> None:
    await crash(env, step)
    committed = files(tmp_path)
    assert exported(tmp_path) == plain(await logged(tmp_path))[: len(exported(tmp_path))]
    assert all_read(tmp_path) == [row["position"] for row in exported(tmp_path)]
    await export_once(env)

    assert files(tmp_path)[: len(committed)] == committed
    assert exported(tmp_path) == plain(await logged(tmp_path))
    assert list((tmp_path / "export").glob("**/*.tmp")) == []


@pytest.mark.parametrize("step", ["dropped", "written", "named"])
async def test_killed_during_a_backfill(step: str, tmp_path: Path, env: dict[str, str]) -> None:
    await export_once(env)
    whole = exported(tmp_path)
    await crash(env, step, "--from", "20", after=2)
    assert exported(tmp_path) == whole[: len(exported(tmp_path))]
    assert exported(tmp_path) != whole
    await export_once(env)

    assert exported(tmp_path) == whole


@pytest.mark.parametrize("step", ["made", "swapped"])
async def test_killed_while_it_compacts(step: str, tmp_path: Path, env: dict[str, str]) -> None:
    await export_once(env)
    whole, before = exported(tmp_path), files(tmp_path)
    env |= {"EXPORT_COMPACT_FILES": "2"}
    await crash(env, step, after=1)
    assert exported(tmp_path) == whole
    assert (files(tmp_path) == before) == (step == "made")
    assert all_read(tmp_path) == [row["position"] for row in whole]
    await append(tmp_path, mixed(5, first=30))
    await export_once(env)

    assert exported(tmp_path) == plain(await logged(tmp_path))
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("step", HTTP)
async def test_killed_while_it_sends(step: str, tmp_path: Path, env: dict[str, str], receiver: Receiver) -> None:
    env |= {"EXPORT_SINK": "http", "EXPORT_HTTP_URL": receiver.url, "EXPORT_HTTP_ROWS": "4"}
    await crash(env, step)
    await export_once(env)

    assert receiver.positions == [row.position for row in await logged(tmp_path)]
    sent = [row["position"] for batch in receiver.batches for row in batch.rows]
    assert len(sent) >= len(receiver.positions)
