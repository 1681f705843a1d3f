"""What the pages say of the export is so: the queries run, the columns and the settings are the code's."""

import ast
import re
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from infra.export import arrow
from infra.export.settings import ExportSettings
from order_svc.export import ORDERS
from tests.docs.pages import ROOT, blocks, rows, section
from tests.infra.export.commands import export_once
from tests.infra.export.orders import EVENING, append, environment, facts, records
from tests.infra.export.readers import lines, positions

PAGE = ROOT / "docs" / "export.md"
OPERATING = ROOT / "docs" / "operating.md"
SHARED = {"DATA_DIR", "LOG_LEVEL", "LOG_FORMAT"}


def query(language: str) -> str:
    (block,) = (block for block in blocks(section(OPERATING, "## Data platform")) if block.language == language)
    return block.text


@pytest.fixture
async def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exported on two days, where the pages look for it; amounts due are 49,200 less the order's number."""
    monkeypatch.chdir(tmp_path)
    kinds = ["confirmed", "corrected", "canceled", "confirmed"]
    for number, kind in enumerate(kinds):
        at = EVENING + timedelta(days=number // 3)
        await append(tmp_path / ".data", records(facts(number, kind, at)))
    await export_once(environment(tmp_path / ".data"))


@pytest.mark.usefixtures("exported")
def test_the_query_answers_in_duckdb() -> None:
    with duckdb.connect() as connection:
        answer = connection.execute(query("sql")).fetchall()

    assert answer == [(date(2026, 1, 30), 2, 49_200), (date(2026, 1, 31), 1, 49_197)]


@pytest.mark.usefixtures("exported")
def test_the_line_answers_in_pandas() -> None:
    answer = eval(query("python"), {"pandas": pd})

    assert answer.to_dict() == {"canceled": 0, "confirmed": 49_200 + 49_199 + 49_197, "correction": 49_199}


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize("line", lines())
def test_each_line_reads_every_row(line: str) -> None:
    assert positions(Path(".data"), line) == [2, 4, 5, 7, 9]


def test_the_table_of_settings_has_every_variable_with_its_default() -> None:
    defaults = ExportSettings()
    found = {field.upper(): getattr(defaults, field) for field in ExportSettings.__struct_fields__}
    found["EXPORT_DIR"] = defaults.folder
    table = rows(section(PAGE, "## Settings"))

    assert {cells[0].strip("`"): cells[1].strip("`") for cells in table} == {
        name: f"{value:g}" if isinstance(value, float) else str(value or "unset")
        for name, value in found.items()
        if name not in SHARED
    }
    assert set(found) > SHARED
    assert all(cells[3] for cells in table)


def test_the_units_are_those_in_the_names() -> None:
    units = {"_S": "seconds", "_BYTES": "bytes", "_ROWS": "rows", "_FILES": "files", "_URL": "URL"}
    for cells in rows(section(PAGE, "## Settings")):
        for suffix, unit in units.items():
            assert not cells[0].strip("`").endswith(suffix) or cells[2] == unit


def test_the_table_of_columns_is_the_schema() -> None:
    table = rows(section(PAGE, "## Rows"))
    documented = [(cells[0].strip("`"), cells[1].strip("`"), cells[2] == "yes") for cells in table]
    schema = arrow.schema(ORDERS)

    assert [name for name, _, _ in documented] == schema.names
    for name, kind, nullable in documented:
        field = schema.field(name)
        assert field.nullable == nullable, name
        if name != "lines":
            assert str(field.type) == kind
    (lines,) = (kind for name, kind, _ in documented if name == "lines")
    parts = [(part.name, str(part.type)) for part in schema.field("lines").type.value_type]
    assert re.findall(r"`(\w+)` (\w+)", lines.replace("list of (`", "`")) == parts
    assert f"`{ORDERS.schema}`" in PAGE.read_text(encoding="utf-8")


def test_the_line_of_totals_has_what_is_compared() -> None:
    (line,) = (block for block in blocks(section(PAGE, "## HTTP")) if block.language == "json")

    assert list(ast.literal_eval(line.text)) == ["day", "kind", "rows", *ORDERS.sums]
