"""`just bench`: measures the saga and the systems that it replaces in one run, on this machine."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import rich_click as click
from rich.console import Console

from bench import ceilings, plot, report, tables
from bench.growth import measure_growth
from bench.load import LoadFailed
from bench.overload import measure_overload
from bench.phases import PHASES, Phase, Row, run
from bench.report import Results
from bench.secured import measure_secured
from bench.systems import ALTERNATIVES, HOW_TO_INSTALL, SYSTEMS, WentWrong, missing
from bench.watched import PAIRS, measure_watched
from bench.years import ORDERS, PARTS, Years, measure_years
from infra.local.processes import StartFailed
from infra.settings import SettingsError
from ops.cli import LARGEST, WholeNumber

EXIT_FAILED: Final = 1
EXIT_STOPPED: Final = 130
RESULTS: Final = "results.json"
RUNS: Final = 3
QUICKLY: Final = 0.3  # share of the orders with --quick
HISTORIES: Final = (100_000, 1_000_000)  # facts
GROWTH: Final = "growth"
OVERLOAD: Final = "overload"
YEARS: Final = "years"
WATCHED: Final = "watched"
SECURED: Final = "secured"
LEAST_ORDERS: Final = 1_000
FEWER: Final = 0.1
"""Share of the orders that the alternatives get in closed loops: they are slower, and should not take longer."""
LINES: Final = (1, 100)
"""Lines of each order in an overload, one overload for each number."""


@click.command("bench", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help=f"One run of fewer orders, without {GROWTH} and {OVERLOAD}: in minutes.")
@click.option("--runs", type=WholeNumber(1, LARGEST), help=f"How often each is measured. Default: {RUNS}.")
@click.option(
    "--only",
    type=click.Choice([*(phase.name for phase in PHASES), GROWTH, OVERLOAD, YEARS, WATCHED, SECURED]),
    multiple=True,
    help="Such a phase only; may be repeated.",
)
@click.option("--system", "systems", type=click.Choice(list(SYSTEMS)), multiple=True, help="Such a system only.")
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, help=f"Such a part of {YEARS} only.")
@click.option("--orders", type=WholeNumber(LEAST_ORDERS, LARGEST), help=f"Orders of a long run. Default: {ORDERS:,}.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".bench"),
    show_default=True,
    help="Folder for results.json, results.txt and results.svg.",
)
def main(
    *,
    quick: bool,
    runs: int | None,
    only: tuple[str, ...],
    systems: tuple[str, ...],
    parts: tuple[str, ...],
    orders: int | None,
    out: Path,
) -> None:
    """Measure the saga, the same domains in one process, the monolith it replaces, and what users would pick instead.

    That is the choreography written by hand on FastStream, and a workflow of DBOS. Phase by phase, interleaved.

    Everything is started here, on loopback, each run with a system of its own. The results of each run are verified. A
    system that lost or doubled anything ends the bench with exit code 1. Each result is kept as it comes: whatever ends
    the bench, also Ctrl-C (exit code 130), it ends with the report of what was measured.

    Phases: c64, c256 (closed loops), hot (one product), mix (one order in five refused), low (20 orders a second), half
    (half of c64's rate), growth (a million facts), overload (ten times what it can do, for a minute).

    years, only if it is named: long runs by many users and by one, each tenth of them beside the first; fixed rates
    beside the monolith; a steady rate over many subjects; twenty roll-overs, archived under load. Most of an hour, or
    less by its --part and --orders.

    watched, only if it is named: c64 with the dashboard open by three viewers beside c64 without metrics, and with
    traces of a tenth of the orders beside c64 without; 15 pairs unless --runs says otherwise. A quarter of an hour.
    secured, only if it is named: c64 with tokens, and with tokens over TLS, beside c64 without; 15 pairs, too.
    """
    if (parts or orders) and YEARS not in only:
        raise click.UsageError(f"--part and --orders go with --only {YEARS}")
    if "half" in only and "c64" not in only:
        raise click.UsageError("`half` goes with c64")
    out.mkdir(parents=True, exist_ok=True)
    usual = PAIRS if {WATCHED, SECURED} & {*only} else RUNS
    results = report.new(runs or (1 if quick else usual), quick=quick)
    began, code = time.monotonic(), EXIT_FAILED
    try:
        keep = partial(report.write, results, out / RESULTS)
        _measure(results, keep, only, systems, parts=parts, orders=orders)
        code = 0
    except (LoadFailed, WentWrong, StartFailed, SettingsError) as error:
        click.echo(f"the bench ends here: {error}", err=True)
    except KeyboardInterrupt:
        click.echo("the bench was stopped: this is what it had measured", err=True)
        code = EXIT_STOPPED
    finally:  # an error that nobody expects comes behind the report, with its traceback
        if results.measured:
            _report(results, out, time.monotonic() - began)
    sys.exit(code)


def _measure(
    results: Results,
    keep: Callable[[], None],
    only: Sequence[str],
    systems: Sequence[str],
    *,
    parts: Sequence[str],
    orders: int | None,
) -> None:
    """Add to the results as they come, and `keep` them after each."""

    def added(row: Row) -> None:
        _tell(row)
        keep()

    shrink = QUICKLY if results.quick else 1.0
    phases = [phase for phase in PHASES if not only or phase.name in only]
    if phases:
        for row in _rows(phases, systems or _installed(), results.runs, shrink):
            results.rows.append(row)
            added(row)
    if not only:
        for ceiling in ceilings.measure_all(shrink):
            results.ceilings.append(ceiling)
            keep()
    if GROWTH in only or not (only or results.quick):
        for grown in measure_growth(HISTORIES, results.runs):
            results.growth.append(grown)
            keep()
    if OVERLOAD in only or not (only or results.quick):
        for lines in LINES:
            results.overload.append(measure_overload(lines))
            keep()
    if YEARS in only:
        results.years = Years()
        for part in parts or PARTS:
            orders = orders or int(ORDERS * shrink)
            measure_years(results.years, [part], results.runs, added, orders=orders, shrink=shrink)
            keep()
    if WATCHED in only:
        for row in measure_watched(results.runs, shrink):
            results.watched.append(row)
            added(row)
    if SECURED in only:
        for row in measure_secured(results.runs, shrink):
            results.secured.append(row)
            added(row)


def _report(results: Results, out: Path, took_s: float) -> None:
    """Write what was measured as a table and a picture, too, and show it."""
    console = Console()
    tables.show(results, console)
    machine = f"{results.machine}; commit {results.commit}; {took_s:.0f} s. The results: {out}"
    console.print(machine, highlight=False)
    plot.draw(results, out / "results.svg")
    with (out / "results.txt").open("w") as file:
        tables.show(results, Console(file=file, width=110))


def _installed() -> tuple[str, ...]:
    """The systems that can run here; says which cannot, and what would install them."""
    absent = missing()
    if absent:
        click.echo(f"without {' and '.join(absent)}, which are not installed: {HOW_TO_INSTALL}", err=True)
    return tuple(system for system in SYSTEMS if system not in absent)


def _rows(phases: Sequence[Phase], systems: Sequence[str], runs: int, shrink: float) -> Iterator[Row]:
    """Interleaved, because the machine drifts: each phase runs every system once, and the next run begins with another
    one.
    """
    rates: dict[str, float] = {}
    for number in range(runs):
        first = number % len(systems)
        for phase in phases:
            for system in (*systems[first:], *systems[:first]):
                fewer = FEWER if system in ALTERNATIVES and phase.orders else 1.0
                row = run(phase, system, rates[system] / 2 if phase.half else None, shrink * fewer)
                if phase.name == "c64":
                    rates[system] = row.per_s
                yield row


def _tell(row: Row) -> None:
    click.echo(
        f"{row.phase:<7} {row.system:<20} {row.per_s:>7,.0f} orders/s  p50 {row.p50_ms:>6.1f} ms  "
        f"p99 {row.p99_ms:>6.1f} ms  {row.cpu_s_per_1000:.2f} CPU s per 1,000",
        err=True,
    )


if __name__ == "__main__":
    main(prog_name="just bench")
