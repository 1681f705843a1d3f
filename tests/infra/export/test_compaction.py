"""Small files of a day are put together: the same rows, whatever happens meanwhile, and nothing else in the folder."""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pyarrow.parquet as pq
import pytest
import structlog

from infra import files as infra_files
from infra.export import compaction, file_sink
from infra.export.compaction import CompactionLimits
from infra.export.errors import SinkError, Unavailable
from infra.export.file_sink import FileSink
from infra.export.parquet import Range, committed, put_together
from infra.export.rows import ExportPosition, Row
from infra.export.sink import Limits
from order_svc.export import ORDERS
from tests.infra.export.commands import command, export_once
from tests.infra.export.orders import (
    EVENING,
    NO_COMPACTION,
    append,
    environment,
    exported,
    facts,
    files,
    logged,
    mixed,
    plain,
    records,
    rows_of,
)

DAY = "date=2026-01-30"
TWO = CompactionLimits(2, 1 << 20)


def never() -> bool:
    return False


def sink_of(data_dir: Path, limits: CompactionLimits = TWO) -> FileSink:
    return FileSink(ORDERS, data_dir / "export" / "orders", Limits(1_000_000, 1 << 30, 3_600.0), limits)


def day_of(data_dir: Path) -> Path:
    return data_dir / "export" / "orders" / DAY


async def write(data_dir: Path, rows: Sequence[Row], a_file: int = 1) -> None:
    """Write files of as many rows, and compact nothing."""
    sink = sink_of(data_dir, NO_COMPACTION)
    with sink.lock():
        for first in range(0, len(rows), a_file):
            await sink.commit(rows[first : first + a_file])


async def compacted(data_dir: Path, limits: CompactionLimits = TWO, stopped: Callable[[], bool] = never) -> int:
    """Compact until nothing is to do; how many steps that took."""
    sink = sink_of(data_dir, limits)
    steps = 0
    with sink.lock():
        while await sink.compact(stopped):
            steps += 1
    return steps


def some(count: int, step_s: float = 0.1) -> list[Row]:
    """As many rows; with the step as it is, of one day."""
    return rows_of(mixed(count, step_s=step_s))[:count]


def names(data_dir: Path) -> list[str]:
    return [name.partition("/")[2] for name in files(data_dir)]


# What is put together -------------------------------------------------------------------------------------------------


async def test_a_days_small_files_become_one_with_the_same_rows_position_and_totals(tmp_path: Path) -> None:
    rows = some(30)
    await write(tmp_path, rows)
    sink = sink_of(tmp_path)
    position = await sink.position()
    totals = await sink.totals(position)
    before = pq.read_schema(next(day_of(tmp_path).iterdir())).metadata
    assert len(names(tmp_path)) == 30
    assert await compacted(tmp_path) == 1

    assert names(tmp_path) == [f"{rows[0].position}-{rows[-1].position}"]
    assert exported(tmp_path) == plain(rows)
    assert (await sink.position(), await sink.totals(position)) == (position, totals)
    (path,) = day_of(tmp_path).iterdir()
    assert pq.read_schema(path).metadata.keys() == before.keys()
    assert pq.read_schema(path).metadata[b"schema"] == b"orders/1"
    assert await compacted(tmp_path) == 0


async def test_the_current_day_waits_for_enough_small_files_and_a_day_that_is_over_does_not(tmp_path: Path) -> None:
    # Sixteen orders reach midnight.
    both = some(40, step_s=4)
    rows = [row for row in both if row.day == both[0].day]
    later = [row for row in both if row.position > rows[-1].position]
    await write(tmp_path, rows)
    assert await compacted(tmp_path, CompactionLimits(len(rows) + 1, 1 << 20)) == 0
    await write(tmp_path, later[:5])
    assert await compacted(tmp_path, CompactionLimits(6, 1 << 20)) == 1
    assert len(names(tmp_path)) == 1 + 5
    assert await compacted(tmp_path, CompactionLimits(5, 1 << 20)) == 1
    assert len(names(tmp_path)) == 1 + 1

    assert exported(tmp_path) == plain([*rows, *later[:5]])


async def test_days_that_interleave_keep_their_order(tmp_path: Path) -> None:
    seconds = [-9, -8, 1, -1, 2, 3, 4]  # before or after midnight
    midnight = EVENING + timedelta(minutes=1)
    orders = [facts(n, "confirmed", midnight + timedelta(seconds=s)) for n, s in enumerate(seconds)]
    rows = rows_of([record for order in orders for record in records(order)])
    await write(tmp_path, rows)
    await compacted(tmp_path)

    assert exported(tmp_path) == plain(rows)
    assert files(tmp_path) == ["2026-01-30/2-4", "2026-01-31/6-6", "2026-01-30/8-8", "2026-01-31/10-14"]


async def test_what_is_put_together_has_a_bounded_size_and_large_files_stay(tmp_path: Path) -> None:
    rows = some(60)
    await write(tmp_path, rows[:40], a_file=40)
    (large,) = day_of(tmp_path).iterdir()
    await write(tmp_path, rows[40:])
    most = 2 * large.stat().st_size
    await compacted(tmp_path, CompactionLimits(2, most))

    assert large.exists()
    assert max(path.stat().st_size for path in day_of(tmp_path).iterdir()) <= most
    assert len(names(tmp_path)) < 10
    assert exported(tmp_path) == plain(rows)


async def test_files_of_another_schema_are_not_put_together(tmp_path: Path) -> None:
    rows = some(8)
    await write(tmp_path, rows)
    for path in sorted(day_of(tmp_path).iterdir())[4:]:
        table = pq.ParquetFile(path).read()
        table = table.replace_schema_metadata({**table.schema.metadata, b"schema": b"orders/2"})
        pq.write_table(table, path)
    for _ in range(2):
        await compacted(tmp_path)
        assert len(names(tmp_path)) == 2

    assert [pq.read_schema(path).metadata[b"schema"] for path in sorted(day_of(tmp_path).iterdir())] == [
        b"orders/1",
        b"orders/2",
    ]
    assert exported(tmp_path) == plain(rows)


async def test_a_small_row_group_at_a_time_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.export.parquet.ROW_GROUP", 4)
    rows = some(30)
    await write(tmp_path, rows)
    await compacted(tmp_path)

    (path,) = day_of(tmp_path).iterdir()
    assert pq.ParquetFile(path).num_row_groups == 8
    assert exported(tmp_path) == plain(rows)


async def test_a_backfill_and_the_export_go_on_after_it(tmp_path: Path) -> None:
    await append(tmp_path, mixed(30))
    env = environment(tmp_path, EXPORT_FILE_BYTES="1500", EXPORT_COMPACT_FILES="3")
    for first in (30, 35, 40):
        await export_once(env)
        await append(tmp_path, mixed(5, first=first))
    await export_once(env)
    few = names(tmp_path)
    for start in (60, 41, 1):
        await export_once(env, start)
        assert exported(tmp_path) == plain(await logged(tmp_path))

    assert len(few) < 10
    assert (await command(env, "reconcile")).code == 0


# What is beside it ----------------------------------------------------------------------------------------------------


async def test_what_others_put_into_the_folder_and_its_mode_stay(tmp_path: Path) -> None:
    await write(tmp_path, some(4))
    (day_of(tmp_path) / "_SUCCESS").write_text("a loader's")
    day_of(tmp_path).chmod(0o750)
    for path in day_of(tmp_path).iterdir():
        path.chmod(0o640)
    await compacted(tmp_path)

    assert sorted(path.name for path in day_of(tmp_path).iterdir())[1:] == ["_SUCCESS"]
    assert stat.S_IMODE(day_of(tmp_path).stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in day_of(tmp_path).iterdir()} == {0o640}


async def test_the_replaced_folder_stays_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await write(tmp_path, some(4))
    before = {path.name for path in day_of(tmp_path).iterdir()}
    await compacted(tmp_path)
    await compacted(tmp_path)
    (kept,) = (tmp_path / "export" / ".orders.work").iterdir()
    assert {path.name for path in kept.iterdir()} == before

    monkeypatch.setattr(compaction, "KEPT_S", 0.0)
    await compacted(tmp_path)
    assert list((tmp_path / "export" / ".orders.work").iterdir()) == []


async def test_what_is_made_is_on_the_disk_before_the_swap_and_the_swap_before_anything_else(
    tmp_path: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = infra_files.exchange

    def see_exchange(one: Path, other: Path) -> None:
        steps.append(f"{one.name.rpartition('.')[0]} swapped with {other.name}")
        exchange(one, other)

    monkeypatch.setattr(infra_files, "exchange", see_exchange)
    await write(tmp_path, some(2))
    sink = sink_of(tmp_path)
    with sink.lock():
        steps.clear()
        assert await sink.compact(never)

    (made,) = day_of(tmp_path).iterdir()
    (kept,) = (tmp_path / "export" / ".orders.work").iterdir()
    assert steps == [
        f"fsync {made.name}",
        f"fsync {kept.name}",
        "fsync .orders.work",
        f"{DAY} swapped with {DAY}",
        "fsync orders",
        "fsync .orders.work",
    ]


# When it fails --------------------------------------------------------------------------------------------------------


async def test_asked_to_end_it_gives_up_and_changes_nothing(tmp_path: Path) -> None:
    rows = some(6)
    await write(tmp_path, rows)
    before = names(tmp_path)
    asked = iter([False, False, True])
    assert await compacted(tmp_path, stopped=lambda: next(asked)) == 0

    assert names(tmp_path) == before
    assert list((tmp_path / "export" / ".orders.work").iterdir()) == []


async def test_a_file_system_that_cannot_swap_is_said_once_and_small_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        """A C library without the function, as old ones are."""

    rows = some(6)
    await write(tmp_path, rows)
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: Library())
    sink = sink_of(tmp_path)
    with structlog.testing.capture_logs() as logged_lines, sink.lock():
        assert not await sink.compact(never)
        await sink.commit(some(30)[6:8])
        assert not await sink.compact(never)

    (line,) = [line for line in logged_lines if line["log_level"] == "warning"]
    assert "EXPORT_COMPACT_FILES=0" in line["event"]
    assert len(names(tmp_path)) == 7
    assert list((tmp_path / "export" / ".orders.work").iterdir()) == []


async def test_a_damaged_file_or_a_full_disk_stops_neither_the_export_nor_other_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some(60, step_s=4)
    await write(tmp_path, rows)
    whole = exported(tmp_path)
    damaged = sorted(day_of(tmp_path).iterdir())[1]
    content = damaged.read_bytes()
    damaged.write_bytes(b"not Parquet")
    sink = sink_of(tmp_path)
    with structlog.testing.capture_logs() as logged_lines, sink.lock():
        for _ in range(4):
            await sink.compact(never)
        await sink.commit([])

    assert any(damaged.name in line.get("reason", "") for line in logged_lines)
    assert len(names(tmp_path)) < len(rows) - 10
    damaged.write_bytes(content)
    assert exported(tmp_path) == whole

    def full(one: Path, other: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(infra_files, "exchange", full)
        assert await compacted(tmp_path) == 0
    await compacted(tmp_path)
    assert exported(tmp_path) == whole
    assert damaged not in day_of(tmp_path).iterdir()


async def test_after_a_full_disk_small_files_are_tried_again_without_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some(6)
    await write(tmp_path, rows)
    now_s = 0.0
    monkeypatch.setattr(compaction, "monotonic", lambda: now_s)

    def full(one: Path, other: Path) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sink = sink_of(tmp_path)
    with sink.lock():
        with monkeypatch.context() as patched:
            patched.setattr(infra_files, "exchange", full)
            assert not await sink.compact(never)
        now_s = compaction.AGAIN_S - 1
        assert not await sink.compact(never)
        assert len(names(tmp_path)) == len(rows)
        now_s = compaction.AGAIN_S
        while await sink.compact(never):
            pass
    assert len(names(tmp_path)) == 1
    assert exported(tmp_path) == plain(rows)


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_the_damaged_one_of_the_files_to_be_put_together_is_named(tmp_path: Path, number: int) -> None:
    await write(tmp_path, some(3))
    ranges = committed(tmp_path / "export" / "orders")
    ranges[number].path.write_bytes(b"not Parquet")

    with pytest.raises(SinkError, match=f"{ranges[number].path} cannot be read: .* --from {ranges[number].first}"):
        put_together(ranges, tmp_path / "made", never)


async def test_a_file_of_others_that_appears_meanwhile_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    rows = some(6)
    await write(tmp_path, rows[:4])
    sink = sink_of(tmp_path)
    with structlog.testing.capture_logs() as logged_lines, sink.lock():
        (day_of(tmp_path) / "from-elsewhere.parquet").write_bytes(b"")
        for _ in range(3):
            assert not await sink.compact(never)
        await sink.commit(rows[4:])

    (line,) = [line for line in logged_lines if line["log_level"] == "warning"]
    assert "move it away" in line["reason"]
    (day_of(tmp_path) / "from-elsewhere.parquet").unlink()
    assert exported(tmp_path) == plain(rows)


# Status and reconciliation meanwhile ----------------------------------------------------------------------------------


async def test_position_and_totals_are_right_when_files_are_replaced_after_they_were_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some(12)
    await write(tmp_path, rows)
    reader = sink_of(tmp_path)
    expected = await reader.totals(ExportPosition(rows[-1].position, ""))
    writer = sink_of(tmp_path)
    listings = 0

    def replaced_after_the_listing(folder: Path) -> list[Range]:
        nonlocal listings
        found = committed(folder)
        listings += 1
        monkeypatch.setattr(file_sink, "committed", committed)
        writer._compactor.step(lambda: found, never)
        return found

    for read in (reader.position, lambda: reader.totals(ExportPosition(rows[-1].position, ""))):
        with writer.lock():
            monkeypatch.setattr(file_sink, "committed", replaced_after_the_listing)
            answer = await read()
        assert answer in (ExportPosition(rows[-1].position, rows[-1].fact_id), expected)
        assert len(names(tmp_path)) == 1
        writer = sink_of(tmp_path)
        with writer.lock():
            await writer.rewind(ExportPosition(0, ""))
        await write(tmp_path, rows)
    assert listings == 2


async def test_totals_during_a_backfill_are_no_difference_but_unavailable(tmp_path: Path) -> None:
    rows = some(12)
    await write(tmp_path, rows)
    sink = sink_of(tmp_path)
    through = await sink.position()
    with sink.lock():
        await sink.rewind(ExportPosition(rows[5].position, ""))

    with pytest.raises(Unavailable, match="a backfill is running"):
        await sink.totals(through)


def test_a_swap_of_what_is_not_there_says_both_names(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(FileNotFoundError, match=r"one.*other"):
        infra_files.exchange(tmp_path / "one", tmp_path / "other")
