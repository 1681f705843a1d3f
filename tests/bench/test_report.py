"""Medians, ratios and what is made of them."""

import io
import json
import math
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from bench import plot, report, tables
from bench.ceilings import Ceiling
from bench.growth import Grown
from bench.overload import Latency, Overloaded
from bench.phases import Row
from bench.report import Results
from bench.years import Long, Steady, Tenth, Years


def row(phase: str, system: str, per_s: float, p50_ms: float = 1.0, cpu: float = 1.0) -> Row:
    return Row(phase, system, 100, per_s, p50_ms, 2 * p50_ms, cpu, {system: cpu}, 50.0, {"confirmed": 100})


@pytest.fixture
def results() -> Results:
    made = report.new(3, quick=False)
    for saga, monolith in ((2_000.0, 1_000.0), (9_000.0, 900.0), (2_600.0, 1_100.0)):
        made.rows += [row("c64", "saga", saga, cpu=0.45), row("c64", "monolith", monolith, cpu=1.0)]
    made.rows += [row("low", "saga", 20.0, p50_ms=6.0), row("low", "monolith", 20.0, p50_ms=2.5)]
    made.ceilings = [Ceiling("log", "commit", 100_000.0, 0.01)]
    short = Grown(100_000, [1.0], [0.4], [0.4], {"nats": 100.0, "order": 80.0, "point": 60.0})
    long = Grown(
        1_000_000, [2.0, 9.0, 3.0], [0.5, 0.4, 0.44], [0.4, 0.4, 0.4], {"nats": 500.0, "order": 84.0, "point": 72.0}
    )
    made.growth = [short, long]
    latency = Latency(5.0, 9.0)
    overload = Overloaded(
        lines=1,
        sustained_per_s=100.0,
        seconds=60.0,
        offered_per_s=1_000.0,
        sent_per_s=900.0,
        accepted_per_s=80.0,
        statuses={"503": 49_200, "200": 4_800},
        accepted=latency,
        refused=latency,
        before=latency,
        refused_before=0,
        after=Latency(6.0, 9.0),
        refused_after=0,
        normal_after_s=1.0,
        memory_before_mb={"nats": 50.0, "order": 80.0, "point": 60.0},
        memory_mb={"nats": [60.0, 70.0, 80.0, 90.0], "order": [90.0] * 3 + [108.0], "point": [60.0] * 4},
    )
    made.overload = [overload, replace(overload, lines=100, memory_mb={**overload.memory_mb, "order": [90.0] * 4})]
    return made


def tenth(per_s: float, p99_ms: float, nats: float, order: float) -> Tenth:
    return Tenth(100, per_s, 9.0, p99_ms, 50.0, 80.0, {"nats": nats, "order": order}, {"nats": 90.0, "order": 80.0})


@pytest.fixture
def years() -> Results:
    made = report.new(1, quick=False)
    many = Long(1_000, [tenth(2_000, 40, 0.2, 0.4), tenth(1_900, 120, 0.2, 0.4), tenth(1_800, 60, 0.3, 0.42)], 0)
    one = Long(1, [tenth(2_000, 40, 0.2, 0.4), tenth(1_000, 60, 0.2, 0.5)], 3)
    rows = [row(f"{share} %", system, 99.0, p50, cpu) for share, system, p50, cpu in RATES]
    made.years = Years(
        many, one, rows, Steady(610_000, 400.0, 60.0, 24_000, 20.0, 90.0, 140.0, 260.0, 2, {"nats": 300.0})
    )
    return made


RATES = [
    *((2, "saga", 8.0, 9.0), (2, "monolith", 5.0, 3.0)),
    *((15, "saga", 10.0, 3.0), (15, "monolith", 5.0, 2.0)),
    *((40, "saga", 20.0, 2.0), (40, "monolith", 5.0, 2.0)),
]


def test_years_are_held_against_their_bars(years: Results) -> None:
    told = {ratio.says: (round(ratio.measured, 3), ratio.wanted, ratio.met) for ratio in report.ratios(years)}

    assert told == {
        "years: orders/s, × first tenth": (0.9, "≥ 0.85", True),
        "years: p99, × first tenth": (1.5, "≤ 2", True),
        "years: worst p99 of a tenth, × first": (3.0, "≤ 2.5", False),
        "years: broker's CPU, × first tenth": (1.5, "≤ 1.4", False),
        "years: a service's CPU, × first tenth": (1.05, "≤ 1.2", True),
        "years: refused": (0.0, "≤ 0", True),
        "years, one user: orders/s, × first tenth": (0.5, "≥ 0.85", False),
        "years, one user: p99, × first tenth": (1.5, "≤ 2", True),
        "years, one user: worst p99 of a tenth, × first": (1.5, "≤ 2.5", True),
        "years, one user: broker's CPU, × first tenth": (1.0, "≤ 1.4", True),
        "years, one user: a service's CPU, × first tenth": (1.25, "≤ 1.2", False),
        "years, one user: refused": (3.0, "≤ 0", False),
        "2 %: p50, × monolith": (1.6, "≤ 1.5", False),
        "15 %: p50, × monolith": (2.0, "≤ 2.5", True),
        "15 %: CPU an order, × monolith": (1.5, "≤ 2", True),
        "40 %: p50, × monolith": (4.0, "≤ 3", False),
        "steady: slowest answer, ms": (260.0, "≤ 250", False),
        "steady: refused": (2.0, "≤ 0", False),
    }


def test_years_are_written_and_shown(years: Results, tmp_path: Path) -> None:
    output = io.StringIO()
    report.write(years, tmp_path / "results.json")
    tables.show(years, Console(file=output, width=110))

    told = json.loads((tmp_path / "results.json").read_text())["years"]
    assert [tenth["per_s"] for tenth in told["many"]["tenths"]] == [2_000, 1_900, 1_800]
    assert told["steady"]["refused"] == 2
    lines = [line.split() for line in output.getvalue().splitlines()]
    assert ["orders/s", "2,000", "1,900", "1,800"] in lines
    assert ["×", "first", "1.00", "0.95", "0.90"] in lines
    assert ["nats:", "CPU", "ms", "an", "order", "0.200", "0.200", "0.300"] in lines
    assert "3 orders were refused" in output.getvalue()
    assert "on 610,000 subjects, 24,000 in all" in output.getvalue()
    assert max(map(len, output.getvalue().splitlines())) <= 110


def test_ratios_are_those_of_medians(results: Results) -> None:
    told = {ratio.says: (round(ratio.measured, 3), ratio.wanted, ratio.met) for ratio in report.ratios(results)}
    assert told == {
        "c64: orders/s, × monolith": (2.6, "≥ 2.5", True),
        "low: p50, × monolith": (2.4, "≤ 2", False),
        "low: p99, × monolith": (2.4, "≤ 2.5", True),
        "c64: CPU an order, × monolith": (0.45, "≤ 0.5", True),
        "low: CPU an order, × monolith": (1.0, "≤ 0.5", False),
        "growth: CPU an order, × empty system": (1.1, "≤ 1.15", True),
        "growth: cold start, s": (3.0, "≤ 5", True),
        "growth: broker's memory, MB": (500.0, "≤ 550", True),
        "growth: a service's memory, MB": (84.0, "≤ 120", True),
        "growth: a service's memory, × after the short history": (1.2, "≤ 1.1", False),
        "overload: a service's memory at the end, × in its second quarter": (1.2, "≤ 1.1", False),
        "overload: p50 afterwards, × before": (1.2, "≤ 1.5", True),
        "overload: s until latency is as before": (1.0, "≤ 10", True),
        "overload: refused afterwards": (0.0, "≤ 0", True),
    }


def test_what_was_not_measured_has_no_ratio() -> None:
    assert report.ratios(report.new(1, quick=True)) == []


def test_everything_is_written(results: Results, tmp_path: Path) -> None:
    report.write(results, tmp_path / "results.json")
    told = json.loads((tmp_path / "results.json").read_text())
    assert len(told["rows"]) == 8
    assert told["growth"][1]["memory_mb"]["nats"] == 500.0
    assert told["ratios"][1] == {"says": "low: p50, × monolith", "measured": 2.4, "wanted": "≤ 2", "met": False}


def test_the_table_fits_and_says_what_was_missed(results: Results) -> None:
    output = io.StringIO()
    tables.show(results, Console(file=output, width=100))
    text = output.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    assert next(line.split() for line in text.splitlines() if line.startswith("c64 "))[:3] == ["c64", "saga", "2,600"]
    assert text.count("missed") == 4
    assert "order: MB before; by quarters" in text


def test_an_overload_after_which_latency_does_not_get_normal_again_is_missed(results: Results) -> None:
    results.overload[1].normal_after_s = None

    assert report.ratios(results)[-2][1:] == (math.inf, "≤ 10", False)


@pytest.mark.parametrize(("name", "begins"), [("plot.svg", b"<?xml"), ("plot.png", b"\x89PNG")])
def test_the_picture(name: str, begins: bytes, results: Results, tmp_path: Path) -> None:
    plot.draw(results, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)
