"""Parquet files: how they are cut and named, and what is done about those that should not be there."""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pyarrow.parquet as pq
import pytest

import infra.files
from infra.export import file_sink
from infra.export.arrow import LAST_FACT_ID
from infra.export.errors import SinkError, Unavailable
from infra.export.file_sink import FileSink
from infra.export.rows import START, ExportPosition, Row
from infra.export.sink import Limits
from infra.files import exclusive_lock
from order_svc.export import ORDERS
from tests.infra.export.orders import (
    EVENING,
    NO_COMPACTION,
    append,
    exported,
    exporter,
    facts,
    files,
    logged,
    mixed,
    plain,
    records,
    rows_of,
)

FEW_BYTES = Limits(1_000_000, 4_000, 3_600.0)
MANY = Limits(1_000_000, 1 << 30, 3_600.0)


@contextmanager
def sink(data_dir: Path, limits: Limits = MANY) -> Iterator[FileSink]:
    made = FileSink(ORDERS, data_dir / "export" / "orders", limits, NO_COMPACTION)
    with made.lock():
        yield made


async def export(data_dir: Path, limits: Limits = MANY) -> None:
    with sink(data_dir, limits) as files:
        await exporter(data_dir, files).run(once=True)


def over_midnight(*seconds: float) -> list[Row]:
    """A confirmed order at each of these seconds before (less than 0) or after midnight; positions 2, 4, 6…"""
    midnight = EVENING + timedelta(minutes=1)
    found = [facts(n, "confirmed", midnight + timedelta(seconds=s)) for n, s in enumerate(seconds)]
    return rows_of([record for order in found for record in records(order)])


async def test_every_ended_order_of_the_log_stands_in_the_files_once_in_its_order(tmp_path: Path) -> None:
    await append(tmp_path, mixed(40))
    await export(tmp_path, FEW_BYTES)

    found = exported(tmp_path)
    assert found == plain(await logged(tmp_path))
    assert {row["kind"] for row in found} == {"confirmed", "canceled", "correction"}
    assert len(files(tmp_path)) > 4


async def test_a_file_says_its_schema(tmp_path: Path) -> None:
    await append(tmp_path, mixed(2))
    await export(tmp_path)

    (path,) = (tmp_path / "export" / "orders").glob("*/*.parquet")
    assert pq.read_schema(path).metadata[b"schema"] == b"orders/1"
    assert path.name == "0000000000000002-0000000000000004.parquet"


async def test_a_batch_over_midnight_makes_a_file_of_each_day(tmp_path: Path) -> None:
    with sink(tmp_path) as files_sink:
        await files_sink.commit(over_midnight(-2, -1, 0, 1))

    assert files(tmp_path) == ["2026-01-30/2-4", "2026-01-31/6-8"]


async def test_days_that_interleave_make_ranges_that_do_not_overlap(tmp_path: Path) -> None:
    with sink(tmp_path) as files_sink:
        await files_sink.commit(over_midnight(-2, 1, -1, 2))
        assert await files_sink.position() == ExportPosition(8, f"order-{3:032x}@2")

    assert files(tmp_path) == ["2026-01-30/2-2", "2026-01-31/4-4", "2026-01-30/6-6", "2026-01-31/8-8"]


async def test_another_export_continues_behind_the_last_file(tmp_path: Path) -> None:
    await append(tmp_path, mixed(10))
    await export(tmp_path)
    before = files(tmp_path)
    await append(tmp_path, mixed(10, first=10))
    await export(tmp_path)

    assert files(tmp_path)[: len(before)] == before
    assert exported(tmp_path) == plain(await logged(tmp_path))


async def test_rows_that_are_committed_already_are_not_written_again(tmp_path: Path) -> None:
    rows = over_midnight(-2, -1, 0, 1)
    with sink(tmp_path) as files_sink:
        await files_sink.commit(rows[:2])
        await files_sink.commit(rows)

    assert exported(tmp_path) == plain(rows)


async def test_an_attempt_that_failed_half_way_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = over_midnight(-2, -1, 0, 1)
    folder = tmp_path / "export" / "orders"
    with sink(tmp_path) as files_sink:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "date=2026-01-31").touch()  # a file where a folder should be
        with pytest.raises(Unavailable, match="cannot be written"):
            await files_sink.commit(rows)
        assert files(tmp_path) == ["2026-01-30/2-4"]
        (folder / "date=2026-01-31").unlink()
        await files_sink.commit(rows)

    assert exported(tmp_path) == plain(rows)


async def test_the_lock_is_held_until_a_file_that_takes_longer_than_the_grace_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next export, which began before it, would write the same positions into a file of its own."""
    await append(tmp_path, mixed(8))
    closing, began, go, order = asyncio.Event(), threading.Event(), threading.Event(), list[str]()
    publish = infra.files.publish

    def slowly(path: Path, temporary: Path) -> None:
        began.set()
        go.wait()
        publish(path, temporary)
        order.append(path.name)

    async def stopped() -> None:
        with sink(tmp_path) as files_sink:
            await exporter(tmp_path, files_sink, closing=closing, grace_s=0.01).run(once=True)
        order.append("lock given up")

    with monkeypatch.context() as slow:
        slow.setattr(infra.files, "publish", slowly)
        stopping = asyncio.create_task(stopped())
        await asyncio.to_thread(began.wait)
        closing.set()
        asyncio.get_running_loop().call_later(0.3, go.set)
        await stopping
    assert order.index("lock given up") > 0

    await export(tmp_path)
    assert exported(tmp_path) == plain(await logged(tmp_path))


async def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_before_the_next_file(
    tmp_path: Path, steps: list[str]
) -> None:
    with sink(tmp_path) as files_sink:
        steps.clear()
        await files_sink.commit(over_midnight(-1, 1))

    one, other = "0000000000000002-0000000000000002.parquet", "0000000000000004-0000000000000004.parquet"
    assert steps == [
        "fsync orders",  # the new folder's name
        f"fsync .{one}.tmp",
        f".{one}.tmp becomes {one}",
        "fsync date=2026-01-30",
        "fsync orders",
        f"fsync .{other}.tmp",
        f".{other}.tmp becomes {other}",
        "fsync date=2026-01-31",
    ]


async def test_a_backfill_has_removed_a_file_from_the_disk_before_it_removes_the_one_before(
    tmp_path: Path, steps: list[str]
) -> None:
    with sink(tmp_path) as files_sink:
        await files_sink.commit(over_midnight(-1, 1))
        steps.clear()
        await files_sink.rewind(START)

    assert steps == [
        "remove 0000000000000004-0000000000000004.parquet",
        "fsync date=2026-01-31",
        "remove 0000000000000002-0000000000000002.parquet",
        "fsync date=2026-01-30",
    ]


async def test_what_is_counted_ends_with_the_mark_also_within_a_file(tmp_path: Path) -> None:
    with sink(tmp_path) as files_sink:
        await files_sink.commit(over_midnight(-2, -1, 0, 1))
        counted = {
            day.day: numbers[0] for (day, _), numbers in (await files_sink.totals(ExportPosition(6, ""))).items()
        }

    assert counted == {30: 2, 31: 1}


@pytest.mark.parametrize("place", [".orders.work", "orders/date=2026-01-30"], ids=["now", "earlier versions"])
async def test_what_a_crash_left_is_removed(tmp_path: Path, place: str) -> None:
    await append(tmp_path, mixed(4))
    await export(tmp_path)
    left = tmp_path / "export" / place / ".0000000000000009-0000000000000012.parquet.tmp"
    left.write_bytes(b"half of a fi")
    await export(tmp_path)

    assert not left.exists()
    assert exported(tmp_path) == plain(await logged(tmp_path))


async def test_the_lock_of_earlier_versions_is_respected_and_then_removed(tmp_path: Path) -> None:
    await append(tmp_path, mixed(4))
    await export(tmp_path)
    old = tmp_path / "export" / "orders" / ".lock"
    with exclusive_lock(old), pytest.raises(SinkError, match="another export works on"):
        await export(tmp_path)
    assert old.exists()

    await export(tmp_path)
    assert not old.exists()


async def test_a_folder_that_is_a_link_has_what_is_unfinished_beside_its_target(tmp_path: Path) -> None:
    await append(tmp_path, mixed(4))
    (tmp_path / "disk" / "rows").mkdir(parents=True)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "orders").symlink_to(tmp_path / "disk" / "rows")
    await export(tmp_path)

    assert exported(tmp_path) == plain(await logged(tmp_path))
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == [".orders.work", "orders.lock", "rows"]


async def test_a_folder_on_a_file_system_of_its_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_another(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = os.stat(path, follow_symlinks=follow_symlinks)  # noqa: PTH116 - it is what is replaced
        return os.stat_result([*found[:2], found.st_dev + (path.name == "orders"), *found[3:10]])

    await append(tmp_path, mixed(4))
    monkeypatch.setattr(Path, "stat", on_another)

    with pytest.raises(SinkError, match="is not on the file system of"):
        await export(tmp_path)
    assert exported(tmp_path) == []


async def test_rewinding_drops_every_file_that_reaches_behind_the_position_and_no_other(tmp_path: Path) -> None:
    with sink(tmp_path) as files_sink:
        for first in range(0, 8, 2):
            await files_sink.commit(over_midnight(*range(1, 9))[first : first + 2])
        await files_sink.rewind(ExportPosition(9, ""))
        assert files(tmp_path) == ["2026-01-31/2-4", "2026-01-31/6-8"]
        assert await files_sink.position() == ExportPosition(8, f"order-{3:032x}@2")
        await files_sink.commit(over_midnight(*range(1, 9)))
        assert exported(tmp_path) == plain(over_midnight(*range(1, 9)))
        await files_sink.rewind(START)
        assert files(tmp_path) == []
        await files_sink.commit(over_midnight(1))
        assert files(tmp_path) == ["2026-01-31/2-2"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("0000000000000003-0000000000000009.parquet", "have the same positions"),
        ("from-elsewhere.parquet", "was not written by this export"),
    ],
)
async def test_files_that_would_be_counted_twice_are_refused(tmp_path: Path, name: str, said: str) -> None:
    await append(tmp_path, mixed(4))
    await export(tmp_path)
    (written,) = (tmp_path / "export" / "orders").glob("*/*.parquet")
    (written.parent / name).write_bytes(written.read_bytes())

    with pytest.raises(SinkError, match=said):
        await export(tmp_path)
    assert len(list(written.parent.iterdir())) == 2


@pytest.mark.parametrize("metadata", [None, {"pandas": "{}"}, {LAST_FACT_ID: b"\xff"}])
async def test_a_last_file_that_another_program_wrote_is_said(
    tmp_path: Path, metadata: dict[str | bytes, str | bytes] | None
) -> None:
    await append(tmp_path, mixed(4))
    await export(tmp_path)
    last = max((tmp_path / "export" / "orders").glob("*/*.parquet"), key=lambda path: path.name)
    pq.write_table(pq.read_table(last).replace_schema_metadata(metadata), last)

    with pytest.raises(SinkError, match=rf"{last} cannot be read: .*Delete it; the export writes it again"):
        await export(tmp_path)
    last.unlink()
    await export(tmp_path)
    assert exported(tmp_path) == plain(await logged(tmp_path))


@pytest.mark.parametrize("column", ["position", "at", "kind", "amount_due"])
async def test_a_file_without_a_column_that_is_counted_is_said(tmp_path: Path, column: str) -> None:
    await append(tmp_path, mixed(4))
    with sink(tmp_path) as files_sink:
        await exporter(tmp_path, files_sink).run(once=True)
        one = min((tmp_path / "export" / "orders").glob("*/*.parquet"), key=lambda path: path.name)
        pq.write_table(pq.read_table(one).drop_columns([column]), one)

        with pytest.raises(SinkError, match=rf"(?s){one} cannot be read: .*Write it again: --from"):
            await files_sink.totals(await files_sink.position())


async def test_a_damaged_last_file_is_said_and_deleting_it_is_enough(tmp_path: Path) -> None:
    await append(tmp_path, mixed(20))
    await export(tmp_path, FEW_BYTES)
    whole = exported(tmp_path)
    last = max((tmp_path / "export" / "orders").glob("*/*.parquet"), key=lambda path: path.name)
    last.write_bytes(b"not Parquet")

    with pytest.raises(SinkError, match="Delete it; the export writes it again"):
        await export(tmp_path, FEW_BYTES)
    last.unlink()
    await export(tmp_path, FEW_BYTES)
    assert exported(tmp_path) == whole


async def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await append(tmp_path, mixed(4))
    await export(tmp_path)

    def failing(_: Path) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with sink(tmp_path) as files_sink:
        through = await files_sink.position()
        with monkeypatch.context() as patched:
            patched.setattr(file_sink, "committed", failing)
            for asking in (files_sink.position(), files_sink.totals(through)):
                with pytest.raises(Unavailable, match=r"orders cannot be read: .*Input/output error"):
                    await asking
    monkeypatch.setattr(file_sink, "committed", failing)
    with pytest.raises(SinkError, match=r"orders cannot be read: .*Input/output error"), sink(tmp_path):
        pass


async def test_a_day_that_cannot_be_listed_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await append(tmp_path, mixed(4))
    await export(tmp_path)
    list_folder = os.scandir

    def refused(path: str | Path) -> object:
        if Path(path).name.startswith("date="):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(SinkError, match=r"orders cannot be read: .*Permission denied"), sink(tmp_path):
        pass
