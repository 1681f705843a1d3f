"""The power is cut under load: every answered order is on the disk, and the broker gets back the facts that it lost.

These tests need root and /dev/fuse: without them they are left out (see conftest), unless all tests are wanted.
"""

import asyncio
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.disk import mounted
from tests.chaos.play import nothing_wrong
from tests.chaos.system import BROKER_KILLED, POWER_CUT, SERVICE_KILLED
from tests.sim.bugs import Bug, Change

SEED: Final = 1
NO_FSYNC: Final = Bug(
    "answers before it is on the disk",
    (Change("infra/store/connection.py", 'synchronous: str = "FULL"', 'synchronous: str = "OFF"'),),
    decision=9,
)


async def test_whatever_loses_power_every_order_ends_once(tmp_path: Path) -> None:
    quota = {"kill": 4, "broker-kill": 2, "power": 1, "full": 0.4, "line": 0.4}

    tally = await nothing_wrong(tmp_path, SEED, 2, quota)

    assert tally.times(SERVICE_KILLED) >= 8
    assert tally.times(BROKER_KILLED) >= 4
    assert tally.times(POWER_CUT) == 2
    assert tally.dropped > 0


def test_a_service_that_does_not_wait_for_the_disk_is_seen(tmp_path: Path) -> None:
    """It has lost orders; or what is left of its store is refused at the start."""
    said = NO_FSYNC.planted(tmp_path, "tests.chaos", "1", "--rounds", "1", "--fault", "power")

    assert said.returncode == 1, said.stdout + said.stderr
    assert re.search("and is not in the log|ended by themselves", said.stdout), said.stdout + said.stderr


@pytest.mark.parametrize(("synchronous", "left"), [("FULL", 2), ("OFF", 1)])
async def test_what_sqlite_has_not_synced_is_gone_after_a_cut(synchronous: str, left: int, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        file = disk.folder("order") / "events.sqlite"
        writing = f"""
import os, sqlite3
connection = sqlite3.connect({str(file)!r}, isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("CREATE TABLE orders (number)")
connection.execute("INSERT INTO orders VALUES (1)")
connection.execute("PRAGMA synchronous={synchronous}")
connection.execute("INSERT INTO orders VALUES (2)")
os._exit(0)
"""
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", writing], check=True)

        await disk.cut("order")

        connection = sqlite3.connect(file)
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (left,)
        connection.close()


async def test_a_full_disk_takes_nothing_until_there_is_room(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        file = disk.folder("order") / "file"
        file.write_bytes(b"before")
        await disk.fill("order")
        with pytest.raises(OSError, match="No space left"):
            file.write_bytes(b"while it is full")
        (disk.folder("point") / "file").write_bytes(b"another machine's")
        await disk.free("order")

        file.write_bytes(b"after")

        assert file.read_bytes() == b"after"
