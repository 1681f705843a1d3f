"""What it costs to be watched: both sides run as they say they do, and pairs are compared run by run."""

import io
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace
from rich.console import Console

from bench import report, tables, watched
from bench.phases import Row, through
from bench.systems import WentWrong
from bench.systems.watched import Traced, Unmeasured, Viewed
from bench.wares import Wares
from bench.watched import C64, PLAIN, SIDES, TRACED, UNMEASURED, VIEWED, costs, interval, measure_watched
from infra.local.services import service_names

FEW = 100


def row(system: str, per_s: float, cpu: float = 1.0) -> Row:
    return Row("watched", system, FEW, per_s, 1.0, 2.0, cpu, {}, 50.0, {"confirmed": FEW})


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(1, 0, 0), (2, 0, 1), (5, 0, 4), (6, 0, 5), (8, 0, 7), (9, 1, 7), (15, 3, 11), (16, 3, 12), (25, 7, 17)],
)
def test_the_interval_of_a_median_is_that_of_statistical_tables(count: int, low: int, high: int) -> None:
    """Ranks of the sign test at 5 %, counted from 0; fewer than six values have no such interval."""
    assert interval([float(number) for number in reversed(range(count))]) == (low, high)


def test_pairs_are_compared_run_by_run() -> None:
    """The machine is half as fast in the second pair: the shares do not see it."""
    rows = [row(UNMEASURED, 1_000.0), row(VIEWED, 960.0, cpu=1.1), row(VIEWED, 490.0, cpu=1.3), row(UNMEASURED, 500.0)]

    (cost,) = costs(rows)

    assert (cost.of, cost.beside, cost.pairs) == (VIEWED, UNMEASURED, 2)
    assert (cost.low, cost.high) == (0.96, 0.98)
    assert cost.per_s == pytest.approx(0.97)
    assert cost.cpu == pytest.approx(1.2)


def test_a_run_without_its_pair_is_left_out() -> None:
    (cost,) = costs([row(PLAIN, 1_000.0), row(TRACED, 950.0), row(TRACED, 1.0)])

    assert (cost.of, cost.pairs, cost.per_s) == (TRACED, 1, 0.95)


def test_the_bars_say_which_share_is_missed() -> None:
    made = report.new(1, quick=False)
    made.watched = [row(UNMEASURED, 1_000.0), row(PLAIN, 980.0), row(VIEWED, 960.0), row(TRACED, 960.0)]
    shown = Console(file=io.StringIO(), width=140)

    tables.show(made, shown)

    assert {ratio.says: ratio.met for ratio in report.ratios(made)} == {
        f"watched: {VIEWED}: orders/s, × {UNMEASURED}": False,
        f"watched: {TRACED}: orders/s, × {PLAIN}": True,
    }
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "0.960 to 0.960" in text


def test_every_side_runs_and_which_is_first_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "run", lambda phase, side, **_: replace(row(side, 1.0), phase=phase.name))

    rows = list(measure_watched(2))

    assert [one.system for one in rows] == [*SIDES, *reversed(SIDES)]
    assert {one.phase for one in rows} == {"watched"}


@pytest.mark.slow
@pytest.mark.processes
def test_without_metrics_nothing_is_counted(tmp_path: Path) -> None:
    with Unmeasured(tmp_path) as system:
        through(system, C64, UNMEASURED, Wares(600), None)
        exported = [httpx.get(f"{system.urls[name]}/metrics").text for name in service_names()]

    for text in exported:
        counts = [line for line in text.splitlines() if line.startswith(("saga_facts_recorded_total", "saga_commit_"))]
        assert counts
        assert {line.rpartition(" ")[2] for line in counts if "_created" not in line} == {"0.0"}, counts
    assert "saga_orders_accepted_total 0.0" in exported[0]


@pytest.mark.slow
@pytest.mark.processes
def test_viewers_are_shown_the_orders_and_the_dashboard_is_measured(tmp_path: Path) -> None:
    with Viewed(tmp_path) as system:
        measured = through(system, C64, VIEWED, Wares(600), None)
        assert len(system.events) == 3
        assert all(system.events)
        system.events = [1, 0, 1]
        with pytest.raises(WentWrong, match=r"\[1, 0, 1\]"):
            system.prove()

    assert "dashboard" in measured.cpu_of


@pytest.mark.slow
@pytest.mark.processes
def test_spans_come_to_the_collector(tmp_path: Path) -> None:
    with Traced(tmp_path) as system:
        with pytest.raises(WentWrong, match="no span"):
            system.prove()
        assert through(system, C64, TRACED, Wares(600), None).orders == FEW
