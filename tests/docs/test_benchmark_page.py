"""What docs/benchmark.md shows is what runs of the bench left beside it."""

import io
from pathlib import Path
from typing import Final

import msgspec
import pytest
from rich.console import Console

from bench import tables
from bench.report import Ratio, Results, ratios
from tests.docs.pages import ROOT

PAGE: Final = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
FOLDER: Final = ROOT / "docs" / "benchmark"
RUNS: Final = [FOLDER / "slow-cores", FOLDER / "fast-cores"]

of_each_run = pytest.mark.parametrize("run", [pytest.param(run, id=run.name) for run in (*RUNS, FOLDER / "overload")])


def results(run: Path) -> Results:
    return msgspec.json.decode((run / "results.json").read_bytes(), type=Results)


@of_each_run
def test_the_table_is_made_of_the_results(run: Path) -> None:
    output = io.StringIO()
    tables.show(results(run), Console(file=output, width=110))

    assert output.getvalue() == (run / "results.txt").read_text(encoding="utf-8")
    assert not results(run).quick
    assert results(run).runs >= 3


@of_each_run
def test_the_page_shows_the_table(run: Path) -> None:
    lines = [line.rstrip() for line in (run / "results.txt").read_text(encoding="utf-8").splitlines()]

    assert "\n".join(lines).strip() in PAGE


def test_the_page_says_what_was_met_where() -> None:
    both = zip(*(ratios(results(run)) for run in RUNS), strict=True)

    for bar in both:
        assert f"| {bar[0].says} | {bar[0].wanted} | {' | '.join(map(cell, bar))} |\n" in PAGE


def cell(ratio: Ratio) -> str:
    measured = f"{ratio.measured:.0f}" if ratio.measured > 50 else f"{ratio.measured:.2f}"
    return f"**{measured}**" if ratio.met else measured
