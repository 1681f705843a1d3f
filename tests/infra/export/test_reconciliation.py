"""Log and dataset, compared per day and kind."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.export import process
from infra.export.file_sink import FileSink
from infra.export.reconciliation import totals_of
from infra.export.rows import ExportPosition
from infra.export.settings import ExportSettings
from infra.export.totals import Totals
from infra.settings import read
from infra.store.sqlite import SQLiteStore
from order_svc.export import ORDERS
from tests.infra.export.commands import command, export_once
from tests.infra.export.orders import append, environment, exported, logged, mixed
from tests.infra.export.receiver import Receiver


async def reconcile(env: dict[str, str], *, code: int) -> tuple[str, str]:
    ended = await command(env, "reconcile")
    assert ended.code == code, ended.stdout + ended.stderr
    return ended.stdout, ended.stderr


@pytest.fixture
async def env(tmp_path: Path) -> dict[str, str]:
    await append(tmp_path, mixed(30))
    return environment(tmp_path, EXPORT_FILE_BYTES="4000")


def last_file(data_dir: Path) -> Path:
    return max((data_dir / "export" / "orders").glob("*/*.parquet"), key=lambda path: path.name)


def change(path: Path, **changed: Any) -> None:
    """Plant a difference: these values in the first row of a file."""
    table = pq.ParquetFile(path).read()
    rows = table.to_pylist()
    rows[0] |= changed
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


async def test_equal_ones_are_a_table_and_exit_0(tmp_path: Path, env: dict[str, str]) -> None:
    await export_once(env)
    told, _ = await reconcile(env, code=0)

    lines = told.splitlines()
    assert lines[0].split() == ["day", "kind", "orders", "amount_due", "points", "discount", "total"]
    assert [tuple(line.split()[:3]) for line in lines[1:-2]] == [
        (day, kind, "=") for day in ("2026-01-30", "2026-01-31") for kind in ("canceled", "confirmed", "correction")
    ]
    assert lines[-1] == f"equal, through position {(await logged(tmp_path))[-1].position}"


async def test_the_sums_are_those_of_the_rows(tmp_path: Path, env: dict[str, str]) -> None:
    await export_once(env)
    told, _ = await reconcile(env, code=0)

    confirmed = [row for row in exported(tmp_path) if row["kind"] == "confirmed" and row["at"].day == 30]
    expected = [len(confirmed), *(sum(row[name] for row in confirmed) for name in ORDERS.sums)]
    (line,) = (line for line in told.splitlines() if line.startswith("2026-01-30  confirmed"))
    assert line.split()[3:] == [f"{number:,}" for number in expected]


@pytest.mark.parametrize(
    "changed", [{"amount_due": 1}, {"points": 1}, {"discount": 1}, {"total": 1}, {"kind": "canceled"}]
)
async def test_a_planted_difference_names_the_day_and_exits_1(
    tmp_path: Path, env: dict[str, str], changed: dict[str, Any]
) -> None:
    await export_once(env)
    change(last_file(tmp_path), **changed)
    told, _ = await reconcile(env, code=1)

    assert told.splitlines()[-1].startswith("DIFFERENT, ")
    assert told.splitlines()[-1].endswith(": 2026-01-31")
    assert [line.split()[2] for line in told.splitlines()[1:-2]].count("log") in (1, 2)


async def test_a_file_that_went_missing_from_the_middle_is_a_difference(tmp_path: Path, env: dict[str, str]) -> None:
    await export_once(env)
    min((tmp_path / "export" / "orders").glob("*/*.parquet"), key=lambda path: path.name).unlink()
    told, _ = await reconcile(env, code=1)

    assert told.splitlines()[-1].endswith(": 2026-01-30")
    await export_once(env, start=1)
    await reconcile(env, code=0)


async def test_a_row_in_the_folder_of_another_day_is_none_but_one_of_another_day_is(
    tmp_path: Path, env: dict[str, str]
) -> None:
    await export_once(env)
    change(last_file(tmp_path), at=exported(tmp_path)[0]["at"])
    told, _ = await reconcile(env, code=1)

    assert told.splitlines()[-1].endswith(": 2026-01-30, 2026-01-31")


async def test_what_is_not_exported_yet_is_no_difference(tmp_path: Path, env: dict[str, str]) -> None:
    await export_once(env)
    await append(tmp_path, mixed(5, first=30))
    told, _ = await reconcile(env, code=0)

    assert "10 records of the log are still to be exported" in told


async def test_what_comes_during_the_comparison_is_no_lag(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await export_once(env)
    totals = FileSink.totals

    async def slow(sink: FileSink, through: ExportPosition) -> Totals:
        await append(tmp_path, mixed(5, first=30))
        return await totals(sink, through)

    monkeypatch.setattr(FileSink, "totals", slow)
    compared, behind = await process.reconcile(process.Export("order", ORDERS, read(ExportSettings, env)))

    assert (compared.different, behind.records, behind.seconds) == ([], 0, 0.0)
    assert behind.head == compared.through.position


async def test_without_a_log_it_exits_3(tmp_path: Path) -> None:
    _, said = await reconcile(environment(tmp_path), code=3)

    assert f"the log in {tmp_path / 'order'} cannot be read" in said


async def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, env: dict[str, str]) -> None:
    await export_once(env)
    first = min((tmp_path / "export" / "orders").glob("*/*.parquet"), key=lambda path: path.name)
    first.write_bytes(b"not Parquet")
    _, said = await reconcile(env, code=2)

    assert str(first) in said
    assert "--from 2" in said


# Over HTTP ------------------------------------------------------------------------------------------------------------


async def receivers_totals(data_dir: Path, position: int) -> list[dict[str, Any]]:
    """What a receiver that has everything answers."""
    async with SQLiteStore.read(data_dir / "order" / "events.sqlite") as store:
        totals = await totals_of(store, ORDERS, ExportPosition(position, ""))
    names = ("rows", *ORDERS.sums)
    return [
        {"day": day.isoformat(), "kind": kind, **dict(zip(names, numbers, strict=True))}
        for (day, kind), numbers in totals.items()
    ]


def lines(totals: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in totals)


@pytest.fixture
def http(env: dict[str, str], receiver: Receiver) -> dict[str, str]:
    totals_url = receiver.url.replace("/orders", "/totals?of=orders")
    return env | {"EXPORT_SINK": "http", "EXPORT_HTTP_URL": receiver.url, "EXPORT_HTTP_TOTALS_URL": totals_url}


async def test_a_receiver_is_asked_for_its_totals(tmp_path: Path, http: dict[str, str], receiver: Receiver) -> None:
    await export_once(http)
    last = receiver.positions[-1]
    totals = await receivers_totals(tmp_path, last)
    receiver.totals = lines(totals)
    await reconcile(http, code=0)
    assert receiver.asked == [f"/totals?of=orders&through={last}"]

    totals[0]["rows"] += 1
    receiver.totals = lines(totals)
    told, _ = await reconcile(http, code=1)
    assert told.splitlines()[-1].endswith(totals[0]["day"])


@pytest.mark.parametrize("answer", [b"<html>", b'{"day":"2026-01-30"}', b'{"day":"x","kind":"confirmed","rows":1}'])
async def test_an_answer_that_cannot_be_compared_is_said(
    http: dict[str, str], receiver: Receiver, answer: bytes
) -> None:
    await export_once(http)
    receiver.totals = answer
    _, said = await reconcile(http, code=2)
    assert "sent an answer that cannot be compared" in said


async def test_a_receiver_that_cannot_be_reached_exits_3(http: dict[str, str], receiver: Receiver) -> None:
    await export_once(http)
    _, said = await reconcile(http | {"EXPORT_HTTP_TOTALS_URL": "http://127.0.0.1:1/"}, code=3)
    assert "the dataset cannot be reached" in said


async def test_a_receiver_without_totals_is_a_setting_that_is_missing(http: dict[str, str]) -> None:
    await export_once(http)
    _, said = await reconcile(http | {"EXPORT_HTTP_TOTALS_URL": ""}, code=2)
    assert "EXPORT_HTTP_TOTALS_URL is not set" in said


async def test_what_is_no_whole_number_is_no_amount(http: dict[str, str], receiver: Receiver) -> None:
    await export_once(http)
    receiver.totals = msgspec.json.encode({"day": "2026-01-30", "kind": "confirmed", "rows": 1, "total": "12.5"})
    await reconcile(http, code=2)
