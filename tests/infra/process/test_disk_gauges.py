"""Gauges of the disk: what is free at the last look, and the rate of the last hour once that says something."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from infra.metrics import Metrics
from infra.process.disk_gauges import DiskGauges, free_bytes
from tests.metrics import exposed, samples


class Disk:
    """A disk that has so many free bytes at a time; the test sets both."""

    def __init__(self) -> None:
        self.free, self.now, self.broken = 1_000_000, 0.0, False
        self.metrics = Metrics()
        runtime: Any = SimpleNamespace(metrics=self.metrics, tasks=[])
        self.gauges = DiskGauges(runtime, Path("data"), read=self.read, clock=lambda: self.now)

    def read(self, _: Path) -> int:
        if self.broken:
            raise OSError("gone")
        return self.free

    async def seen(self, now: float, free: int) -> dict[str, float]:
        """What is exported after a look at this time, which finds so many bytes; without the names' beginning."""
        self.now, self.free = now, free
        await self.gauges.look()
        return self.exported()

    def exported(self) -> dict[str, float]:
        found = samples(exposed(self.metrics))
        return {one.name.removeprefix("saga_data_"): one.value for one in found}


async def test_the_rate_is_that_of_the_last_hour_from_ten_minutes_on() -> None:
    disk = Disk()

    assert await disk.seen(0, 1_000_000) == {"free_bytes": 1_000_000}
    assert await disk.seen(599, 900_000) == {"free_bytes": 900_000}
    assert await disk.seen(600, 940_000) == {"free_bytes": 940_000, "fill_bytes_per_second": 100}
    assert await disk.seen(3_600, 1_000_001) == {"free_bytes": 1_000_001, "fill_bytes_per_second": 0}
    assert await disk.seen(4_199, 900_000 - 36_000) == {"free_bytes": 864_000, "fill_bytes_per_second": 10}


async def test_a_disk_that_cannot_be_read_stays_as_it_was_seen_last() -> None:
    disk = Disk()
    assert disk.exported() == {}
    disk.broken = True
    assert await disk.seen(0, 5) == {}
    disk.broken = False
    await disk.seen(1, 7)
    disk.broken = True

    assert await disk.seen(2, 5) == {"free_bytes": 7}


def test_what_is_free_is_read_of_the_disk_with_the_folder(tmp_path: Path) -> None:
    assert 0 < free_bytes(tmp_path) < 1 << 60
