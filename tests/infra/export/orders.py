"""Logs of order_svc for tests of the export: real facts in a real store, and what an export made of them."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from msgspec.structs import replace

from contracts import Fact
from contracts.wire import NAMES, encode
from infra.export.compaction import CompactionLimits
from infra.export.exporter import GRACE_S, Exporter
from infra.export.retry_policy import RetryPolicy
from infra.export.rows import Dataset, Row
from infra.export.settings import ExportSettings
from infra.export.sink import Sink
from infra.export.source import to_row
from infra.store.records import Notification, Record
from infra.store.sqlite import SQLiteStore
from order_svc.export import ORDERS
from tests.examples import BASKET, DISCOUNT, order_canceled, order_confirmed, order_created, with_amounts

EVENING = datetime(2026, 1, 30, 23, 59, 0, tzinfo=UTC)
"""A minute before midnight, UTC."""
AT_ONCE_S = 0.01
NO_COMPACTION = CompactionLimits(0, 1 << 20)


def facts(number: int, kind: str, at: datetime) -> list[Fact]:
    """An order's stream: `pending`, `confirmed`, `canceled`, or `corrected` (confirmed, then canceled)."""
    order_id = f"{number:032x}"
    placed_at = at - timedelta(seconds=1)
    order = replace(BASKET, user_id=f"u{number % 7}", coupon_id=f"c{number}", placed_at=placed_at)
    created = replace(order_created(order, order_id), at=placed_at, deadline=placed_at + timedelta(seconds=30))
    confirmed = replace(order_confirmed(order, DISCOUNT + number, order_id), at=at)
    refused = order_canceled("product-out-of-stock", order, order_id, at)
    canceled = with_amounts(order_canceled("customer-canceled", order, order_id, at + timedelta(seconds=5)), confirmed)
    streams: dict[str, list[Fact]] = {
        "pending": [created],
        "confirmed": [created, confirmed],
        "canceled": [created, refused],
        "corrected": [created, confirmed, canceled],
    }
    return streams[kind]


def records(found: Sequence[Fact]) -> list[Record]:
    """One stream's records."""
    return [Record(fact.stream, version, NAMES[type(fact)], encode(fact)) for version, fact in enumerate(found, 1)]


KINDS = ("confirmed", "canceled", "corrected", "pending", "confirmed")


def mixed(count: int, first: int = 0, at: datetime = EVENING, step_s: float = 4) -> list[Record]:
    """The records of `count` orders of all kinds, `step_s` apart: sixteen of them reach midnight."""
    return [
        record
        for n in range(first, first + count)
        for record in records(facts(n, KINDS[n % len(KINDS)], at + timedelta(seconds=n * step_s)))
    ]


async def append(data_dir: Path, found: Sequence[Record]) -> None:
    """Append to order_svc's log below this folder, as order_svc does."""
    async with SQLiteStore.open(data_dir / "order" / "events.sqlite") as store:
        await store.insert_events(found)


async def logged(data_dir: Path) -> list[Row]:
    """The rows that an export of the whole log has."""
    async with SQLiteStore.read(data_dir / "order" / "events.sqlite") as store:
        found = await store.select_notifications(0, 1_000_000, ORDERS.topics)
    return [to_row(ORDERS, record) for record in found]


def rows_of(found: Sequence[Record]) -> list[Row]:
    """The rows of records that stand at positions 1, 2, 3…"""
    notifications = [Notification(position, *record) for position, record in enumerate(found, 1)]
    return [to_row(ORDERS, record) for record in notifications if record.topic in ORDERS.topics]


def files(data_dir: Path) -> list[str]:
    """The committed files of the file sink, `<day>/<first>-<last>` without the zeros, in the order of their names."""
    found = sorted((data_dir / "export" / "orders").glob("*/*.parquet"), key=lambda path: path.name)
    return [f"{path.parent.name.removeprefix('date=')}/{'-'.join(_positions(path))}" for path in found]


def _positions(path: Path) -> Iterator[str]:
    return (str(int(part)) for part in path.stem.split("-"))


def exported(data_dir: Path) -> list[dict[str, Any]]:
    """All rows of the files, in the order of the files' names and then of the rows in them."""
    found = sorted((data_dir / "export" / "orders").glob("*/*.parquet"), key=lambda path: path.name)
    return [row for path in found for row in pq.ParquetFile(path).read().to_pylist()]


def plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as the dictionaries that a Parquet file gives back."""
    return [
        {name: getattr(row, name) for name in row.__struct_fields__}
        | {"lines": [{name: getattr(line, name) for name in line.__struct_fields__} for line in row.lines]}  # type: ignore[attr-defined]
        for row in rows
    ]


def settings(data_dir: Path, **changed: Any) -> ExportSettings:
    return ExportSettings(data_dir=data_dir, **changed)


def exporter(
    data_dir: Path,
    sink: Sink,
    *,
    closing: asyncio.Event | None = None,
    retry: RetryPolicy | None = None,
    grace_s: float = GRACE_S,
    dataset: Dataset = ORDERS,
) -> Exporter:
    """An export of that folder's log that waits for nothing longer than it must."""
    return Exporter(
        dataset,
        lambda: SQLiteStore.read(data_dir / "order" / "events.sqlite"),
        sink,
        retry or RetryPolicy(3, AT_ONCE_S, AT_ONCE_S),
        poll_s=AT_ONCE_S,
        report_s=60,
        clock=lambda: EVENING,
        closing=closing or asyncio.Event(),
        grace_s=grace_s,
    )


def environment(data_dir: Path, **changed: str) -> dict[str, str]:
    """The environment of an export process that knows this folder and no setting of the developer's.

    It compacts nothing, unless EXPORT_COMPACT_FILES is among `changed`.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EXPORT_")}
    return {
        **inherited,
        "DATA_DIR": str(data_dir),
        "LOG_FORMAT": "text",
        "EXPORT_POLL_S": "0.02",
        "EXPORT_COMPACT_FILES": "0",
        **changed,
    }
