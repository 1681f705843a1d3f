"""What docs/benchmark.md shows is what a run of the bench left beside it."""

import io

import msgspec
from rich.console import Console

from bench import tables
from bench.report import Results
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "benchmark.md"
LEFT = ROOT / "docs" / "benchmark"
TABLE = (LEFT / "results.txt").read_text(encoding="utf-8")


def test_the_table_is_made_of_the_results() -> None:
    results = msgspec.json.decode((LEFT / "results.json").read_bytes(), type=Results)
    output = io.StringIO()
    tables.show(results, Console(file=output, width=110))

    assert output.getvalue() == TABLE
    assert not results.quick
    assert results.runs >= 3


def test_the_page_shows_the_table() -> None:
    lines = [line.rstrip() for line in TABLE.splitlines()]

    assert "\n".join(lines).strip() in PAGE.read_text(encoding="utf-8")
