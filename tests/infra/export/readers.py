"""The export's files as their readers see them: the lines of docs/export.md, run as they are there."""

import os
from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pyarrow.dataset

from tests.docs.pages import ROOT, blocks, section

PAGE = ROOT / "docs" / "export.md"
NAMES = {"duckdb": duckdb, "pandas": pandas, "polars": polars, "pyarrow": pyarrow}


def lines() -> list[str]:
    (block,) = (block for block in blocks(section(PAGE, "## Files")) if block.language == "python")
    return block.text.splitlines()


def positions(data_dir: Path, line: str) -> list[int]:
    """The positions of all rows that this line of the page finds in this folder's export, sorted."""
    found = eval(line.replace(".data/export", os.fspath(data_dir / "export")), dict(NAMES))
    return sorted(column_of(found, "position"))


def column_of(table: Any, name: str) -> list[Any]:
    column = table[name]
    return column.to_pylist() if isinstance(column, pyarrow.ChunkedArray) else column.to_list()  # type: ignore[no-any-return]


def all_read(data_dir: Path) -> list[int]:
    """The positions that every reader finds: all the same ones, each once. No reader is asked if there is no file."""
    if not list((data_dir / "export" / "orders").glob("*/*.parquet")):
        return []
    first, *others = (positions(data_dir, line) for line in lines())
    assert [first] * len(others) == others
    assert len(set(first)) == len(first)
    return first
