"""DuckDB, pandas, Polars and pyarrow read the export's folder at any moment: every row once, up to some position."""

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pyarrow.dataset
import pytest

from infra import files
from infra.export.compaction import CompactionLimits
from infra.export.file_sink import FileSink
from infra.export.rows import START
from infra.export.sink import Limits
from order_svc.export import ORDERS
from tests.infra.export.commands import exporting
from tests.infra.export.orders import append, environment, exported, exporter, logged, mixed
from tests.infra.export.orders import files as committed
from tests.infra.export.readers import all_read, column_of, positions
from tests.infra.export.readers import lines as readers
from tests.shop import attempts

SMALL_FILES = Limits(1_000_000, 1_500, 3_600.0)
COMPACT = CompactionLimits(2, 1 << 20)


def sink_of(data_dir: Path, compaction: CompactionLimits = COMPACT) -> FileSink:
    return FileSink(ORDERS, data_dir / "export" / "orders", SMALL_FILES, compaction)


async def export(data_dir: Path, compaction: CompactionLimits) -> None:
    sink = sink_of(data_dir, compaction)
    with sink.lock():
        await exporter(data_dir, sink).run(once=True)


@pytest.mark.parametrize("line", readers(), ids=lambda line: line.partition(".")[0])
async def test_between_any_two_steps_of_the_export_a_read_finds_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """Also while a file is unfinished, a day is compacted, and a backfill removes files."""
    found: list[int] = []
    steps: list[str] = []

    def look(step: str) -> None:
        steps.append(step)
        if committed(tmp_path):
            read = positions(tmp_path, line)
            assert read == [row.position for row in rows[: len(read)]]
            found.append(len(read))

    def watched(name: str) -> None:
        step: Callable[..., Any] = getattr(files, name)

        @wraps(step)
        def seen(*arguments: Any) -> None:
            look(name)
            step(*arguments)
            look(f"{name} done")

        monkeypatch.setattr(files, name, seen)

    await append(tmp_path, mixed(30))
    rows = await logged(tmp_path)
    for name in ("sync_file", "rename", "sync_folder", "exchange", "remove"):
        watched(name)
    sink = sink_of(tmp_path)
    with sink.lock():
        await exporter(tmp_path, sink).run(once=True)
        await sink.rewind(START)

    assert {"sync_file", "rename done", "exchange", "exchange done", "remove done"} <= set(steps)
    assert max(found) == len(rows)
    assert len(set(found)) > 6


OPENED: dict[str, Callable[[Sequence[str]], Any]] = {
    "duckdb": lambda paths: duckdb.read_parquet(list(paths)).to_arrow_table(),
    "pandas": pandas.read_parquet,
    "polars": lambda paths: polars.read_parquet(list(paths)),
    "pyarrow": lambda paths: pyarrow.dataset.dataset(list(paths)).to_table(),
}
"""Readers that have listed the folder and now open these files."""


@pytest.mark.parametrize("reader", OPENED)
async def test_a_reader_that_listed_before_the_swap_and_opens_after_it_gets_an_error_and_no_other_rows(
    tmp_path: Path, reader: str
) -> None:
    await append(tmp_path, mixed(30))
    await export(tmp_path, CompactionLimits(0, 1))
    listed = sorted(map(os.fspath, (tmp_path / "export" / "orders").glob("*/*.parquet")), key=os.path.basename)
    rows = [row.position for row in await logged(tmp_path)]
    assert sorted(column_of(OPENED[reader](listed), "position")) == rows
    await export(tmp_path, COMPACT)

    with pytest.raises(Exception) as caught:
        OPENED[reader](listed)
    assert isinstance(caught.value, FileNotFoundError) or re.search("(?i)no (such )?file", str(caught.value))
    assert all_read(tmp_path) == rows


async def test_a_listing_that_began_before_the_swap_ends_with_all_its_names(tmp_path: Path) -> None:
    """With a part of them, a reader would miss rows and not know."""
    await append(tmp_path, mixed(10))
    await export(tmp_path, CompactionLimits(0, 1))
    day = tmp_path / "export" / "orders" / "date=2026-01-30"
    before = {path.name for path in day.iterdir()}
    opened = os.open(day, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for first in (10, 20):
            await append(tmp_path, mixed(3, first=first))
            await export(tmp_path, COMPACT)
        assert before <= set(os.listdir(opened))  # noqa: PTH208 - of what is open
    finally:
        os.close(opened)
    assert len(list(day.iterdir())) < len(before)


async def test_reads_beside_a_running_export_find_each_row_once(tmp_path: Path) -> None:
    env = environment(tmp_path, EXPORT_FILE_AGE_S="0.01", EXPORT_POLL_S="0.001")
    with exporting(env, tmp_path) as running:
        for first in range(0, 100, 5):
            await append(tmp_path, mixed(5, first=first))
            read = await asyncio.to_thread(all_read_together, tmp_path)
            rows = [row.position for row in await logged(tmp_path)]
            assert read == [rows[: len(each)] for each in read]
        async for _ in attempts("the last row"):
            if [row["position"] for row in exported(tmp_path)] == rows:
                break
        running.process.terminate()
        assert await running.ended() == 0


def all_read_together(data_dir: Path) -> list[list[int]]:
    """What every reader finds, one after the other, so later ones perhaps more."""
    there = list((data_dir / "export" / "orders").glob("*/*.parquet"))
    return [positions(data_dir, line) for line in readers()] if there else []


async def test_a_running_export_compacts_when_it_has_nothing_to_write(tmp_path: Path) -> None:
    env = environment(tmp_path, EXPORT_FILE_AGE_S="0.01", EXPORT_COMPACT_FILES="3")
    with exporting(env, tmp_path) as running:
        for first in range(0, 60, 5):
            await append(tmp_path, mixed(5, first=first, step_s=0.1))
            rows = [row.position for row in await logged(tmp_path)]
            async for _ in attempts("the new rows in few files"):
                names = committed(tmp_path)
                if names and len(names) <= 3 and names[-1].endswith(f"-{rows[-1]}"):
                    break
        running.process.terminate()
        assert await running.ended() == 0
    assert all_read(tmp_path) == rows
