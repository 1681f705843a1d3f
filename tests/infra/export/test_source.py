"""The log as an export sees it: read beside its writer, never made, and recognised."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from infra.export.errors import AnotherLog, NewerRecord, Unexportable
from infra.export.exporter import Exporter
from infra.export.file_sink import FileSink
from infra.export.rows import START, ExportPosition
from infra.export.sink import Limits
from infra.export.source import Lag, check, lag, position_at, position_from, stopping_at_newer
from infra.store import vocabulary
from infra.store.errors import StoreError
from infra.store.records import Record
from infra.store.sqlite import SQLiteStore
from order_svc.export import ORDERS
from tests.infra.export.orders import (
    EVENING,
    NO_COMPACTION,
    append,
    exported,
    exporter,
    facts,
    logged,
    mixed,
    plain,
    records,
)


def path_of(data_dir: Path) -> Path:
    return data_dir / "order" / "events.sqlite"


@contextmanager
def export(data_dir: Path) -> Iterator[Exporter]:
    sink = FileSink(ORDERS, data_dir / "export" / "orders", Limits(3, 1 << 30, 0.0), NO_COMPACTION)
    with sink.lock():
        yield exporter(data_dir, sink)


async def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "order").mkdir()
    with pytest.raises(StoreError):
        async with SQLiteStore.read(path_of(tmp_path)):
            pass
    assert list((tmp_path / "order").iterdir()) == []


async def test_a_store_read_for_export_cannot_be_written(tmp_path: Path) -> None:
    await append(tmp_path, mixed(1))
    async with SQLiteStore.read(path_of(tmp_path)) as store:
        with pytest.raises(StoreError, match="readonly"):
            await store.insert_events(records(facts(9, "pending", EVENING)))
    assert len(await logged(tmp_path)) == 1


async def test_a_folder_with_any_name_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "data?mode=rwc#50% 데이터"
    await append(folder, mixed(5))

    assert len(await logged(folder)) == 5


async def test_what_is_written_while_it_is_paused_is_seen(tmp_path: Path) -> None:
    await append(tmp_path, mixed(1))
    async with SQLiteStore.open(path_of(tmp_path)) as writer, SQLiteStore.read(path_of(tmp_path)) as reader:
        await writer.insert_events(mixed(1, first=1))
        assert len(await reader.select_notifications(0, 10)) == 4
        assert await reader.max_notification_id() == 4


async def test_the_position_of_a_time_has_every_later_row_behind_it_also_when_the_clock_jumped(tmp_path: Path) -> None:
    seconds = [0, 10, 20, 5, 30]
    for number, second in enumerate(seconds):
        await append(tmp_path, records(facts(number, "confirmed", EVENING + timedelta(seconds=second))))
    async with SQLiteStore.read(path_of(tmp_path)) as store:
        found = [await position_from(store, ORDERS, EVENING + timedelta(seconds=s)) for s in (-1, 0, 1, 10, 11, 30, 31)]

    assert found == [2, 2, 4, 4, 6, 10, None]


async def test_lag_is_nothing_when_no_row_waits_whatever_else_the_log_has(tmp_path: Path) -> None:
    await append(tmp_path, records(facts(1, "confirmed", EVENING)) + records(facts(2, "pending", EVENING)))
    async with SQLiteStore.read(path_of(tmp_path)) as store:
        nothing = await lag(store, ORDERS, ExportPosition(2, ""), EVENING + timedelta(hours=1))
        everything = await lag(store, ORDERS, START, EVENING + timedelta(hours=1))

    assert nothing == Lag(position=2, head=3, records=0, seconds=0.0)
    assert everything == Lag(position=0, head=3, records=3, seconds=3_600.0)


async def test_a_mark_names_the_fact_at_its_position(tmp_path: Path) -> None:
    await append(tmp_path, mixed(2))
    async with SQLiteStore.read(path_of(tmp_path)) as store:
        assert await position_at(store, 0) == START
        assert await position_at(store, 2) == ExportPosition(2, f"order-{0:032x}@2")
        assert await position_at(store, 99) == ExportPosition(99, "")


@pytest.mark.parametrize(
    ("position", "said"),
    [
        (ExportPosition(5, ""), "this log ends before that"),
        (ExportPosition(2, "order-x@2"), r"ends with order-x@2 at position 2"),
    ],
)
async def test_a_log_that_was_not_exported_is_recognised(tmp_path: Path, position: ExportPosition, said: str) -> None:
    await append(tmp_path, mixed(2))
    async with SQLiteStore.read(path_of(tmp_path)) as store:
        await check(store, ExportPosition(2, f"order-{0:032x}@2"))
        with pytest.raises(AnotherLog, match=said):
            await check(store, position)


async def test_another_log_in_its_place_is_not_mixed_into_what_was_exported(tmp_path: Path) -> None:
    await append(tmp_path, mixed(5))
    with export(tmp_path) as running:
        await running.run(once=True)
    before = exported(tmp_path)
    (tmp_path / "order").rename(tmp_path / "old")
    await append(tmp_path, mixed(20, first=100))

    with export(tmp_path) as running, pytest.raises(AnotherLog, match="--from 1"):
        await running.run(once=True)
    assert exported(tmp_path) == before
    with export(tmp_path) as running:
        await running.rewind(1)
        await running.run(once=True)
    assert exported(tmp_path) == plain(await logged(tmp_path))


async def test_a_record_that_is_no_row_stops_the_export_behind_all_that_stands_before_it(tmp_path: Path) -> None:
    await append(tmp_path, mixed(3))
    before = plain(await logged(tmp_path))
    unknown = records(facts(50, "confirmed", EVENING))
    await append(tmp_path, [unknown[0], unknown[1]._replace(state=b'{"type":"order.split"}')])
    await append(tmp_path, mixed(3, first=60))

    for _ in range(2):
        with export(tmp_path) as running, pytest.raises(Unexportable, match=rf"order-{50:032x}@2"):
            await running.run(once=True)
        assert exported(tmp_path) == before


async def test_a_fact_of_a_type_that_only_newer_code_knows_stops_the_export_before_it(tmp_path: Path) -> None:
    await append(tmp_path, mixed(3))
    before = plain(await logged(tmp_path))
    shipped = b'{"type":"order.shipped","at":"2026-03-01T09:30:00Z"}'
    await append(tmp_path, [Record("order-x", 1, "order.shipped", shipped)])
    await append(tmp_path, mixed(3, first=60))
    assert vocabulary.begin(tmp_path / "order", 0, {"order.canceled", "order.shipped"}) == []
    dataset = stopping_at_newer(ORDERS, tmp_path / "order")

    sink = FileSink(dataset, tmp_path / "export" / "orders", Limits(3, 1 << 30, 0.0), NO_COMPACTION)
    with sink.lock(), pytest.raises(NewerRecord, match=r"order-x@1 \(order\.shipped\) .* install the newer version"):
        await exporter(tmp_path, sink, dataset=dataset).run(once=True)
    assert exported(tmp_path) == before
