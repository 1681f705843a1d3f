"""Data are removed only when asked for, and never under anything that works on them."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from infra.local.services import ROOT
from tests.e2e.processes import left_in
from tests.ops.asking import orders, told
from tests.ops.damage import content
from tests.shop import Shop, open_shop


async def test_nothing_is_removed_from_a_running_system(running: Shop) -> None:
    refused = await orders(running, "remove-data", "--yes")

    assert refused.returncode == 2
    assert "works on this data: stop the system first; nothing was removed" in refused.stderr
    assert (await running.place([("product1", 1)], user="customer1", key="afterwards")).status_code == 200
    await running.until_quiet()
    assert (await told(running, "audit", "--at-rest"))["verdict"] == "good"


async def test_nor_under_the_broker_alone(left: Shop) -> None:
    await left.start_nats()
    before = content(left.folder)

    refused = await orders(left, "remove-data", "--yes")

    assert refused.returncode == 2
    assert f"another broker (process {left.processes['nats'].pid})" in refused.stderr
    assert content(left.folder).keys() >= before.keys()


async def test_nor_under_any_process_that_has_a_file_open(left: Shop) -> None:
    with closing(sqlite3.connect(left.folder / "point" / "events.sqlite")) as other:
        other.execute("SELECT count(*) FROM stored_events").fetchone()
        refused = await orders(left, "remove-data", "--yes")

    assert refused.returncode == 2
    assert f"process {os.getpid()} has {left.folder / 'point' / 'events.sqlite'}" in refused.stderr
    assert (left.folder / "point" / "events.sqlite").exists()


async def test_without_yes_it_only_lists(left: Shop) -> None:
    before = content(left.folder)

    listed = await orders(left, "remove-data")

    assert listed.returncode == 0
    assert f"{left.folder / 'point'}  " in listed.stdout
    assert "nothing was removed; with --yes" in listed.stdout
    assert content(left.folder) == before


async def test_all_is_removed_that_the_system_made_and_nothing_else(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.charge("ann", 1)
        await told(shop, "audit")
        for name in [*shop.services, "nats"]:
            await shop.stop(name)
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / "foreign.json").write_text("[]")
        for left in ("replaced-1/order", "point/replaced-1", "nats/replaced-1", ".restoring/order", "nats/.restoring"):
            (tmp_path / left).mkdir(parents=True)
        (tmp_path / "gift").mkdir()
        for left in ("gift/events.sqlite", "gift.identity"):  # of a service that the code has no more
            (tmp_path / left).write_text("")

        removed = await orders(shop, "remove-data", "--yes")

        assert (removed.returncode, removed.stdout.splitlines()[-1]) == (0, "removed")
        assert [name for name in left_in(tmp_path) if not name.endswith(".log")] == ["notes.txt"]
        assert (await orders(shop, "remove-data")).stdout == "there is no data\n"
        await shop.start_nats()
        await shop.start()
        assert await shop.balance("ann") == 0


def test_clean_removes_caches_and_no_data(tmp_path: Path) -> None:
    shutil.copy(ROOT / "justfile", tmp_path)
    for kept in (".data/point/events.sqlite", ".data/nats/jetstream/1.blk", "point_svc/domain.py"):
        (tmp_path / kept).parent.mkdir(parents=True)
        (tmp_path / kept).write_text("kept")
    for cache in (".mypy_cache", ".pytest_cache", "point_svc/__pycache__"):
        (tmp_path / cache).mkdir()
    before = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}

    subprocess.run(["just", "clean"], cwd=tmp_path, check=True, capture_output=True)

    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert before - left == {".mypy_cache", ".pytest_cache", "point_svc/__pycache__"}
