"""`just sim-soak`: millions of schedules of the core, then whole services for the rest of an hour; a table for docs."""

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final

import rich_click as click

from bench.checkout import commit
from tests.sim import many
from tests.sim.many import Tally
from tests.sim.schedule import ANY

CORE_RUNS: Final = 5_000_000
MINUTES: Final = 58.0  # in all: what is under way then takes a little longer
CORE_AT_A_TIME: Final = 5_000  # schedules
AT_A_TIME: Final = 50  # schedules

Play = Callable[[range], Tally]


@click.command("sim-soak", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--core-runs", type=click.IntRange(1), default=CORE_RUNS, show_default=True, help="Of the core.")
@click.option("--runs", type=click.IntRange(0), help="Of whole services. Default: for the minutes that are left.")
@click.option("--minutes", type=click.FloatRange(0), default=MINUTES, show_default=True, help="No more than these.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed of both kinds.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes. Default: one a core.")
def main(*, core_runs: int, runs: int | None, minutes: float, first: int, jobs: int) -> None:
    """Play millions of schedules of the core, then whole services for the rest of the time.

    Exit code 0: all invariants held in all the schedules asked for; 1: one did not, or there was too little time.
    """
    until = time.monotonic() + 60 * minutes
    seeds = many.ranges(first, runs, AT_A_TIME) if runs is not None else endless(first, AT_A_TIME)
    with many.processes(jobs) as pool:
        core = _play(pool, jobs, many.of_the_core, many.ranges(first, core_runs, CORE_AT_A_TIME), until)
        _stop_if_failed(core[0], core_only=True)
        services = _play(pool, jobs, partial(many.of_services, ANY), seeds, until)
        _stop_if_failed(services[0], core_only=False)
    print("\n".join(table(first, {"core": core, "services": services})))
    if core[0].runs < core_runs or services[0].runs < (runs or 0):
        print("there was too little time for all of them")
        sys.exit(1)


def endless(first: int, size: int) -> Iterator[range]:
    return (range(start, start + size) for start in itertools.count(first, size))


def _play(
    pool: ProcessPoolExecutor, jobs: int, play: Play, ranges: Iterable[range], until: float
) -> tuple[Tally, float]:
    """The tally of the ranges that began in time, and how many seconds it took."""
    began, total = time.monotonic(), Tally()
    in_time = itertools.takewhile(lambda _: time.monotonic() < until, ranges)
    for tally in many.played(pool, jobs, play, in_time):
        total = total.plus(tally)
    return total, time.monotonic() - began


def _stop_if_failed(tally: Tally, *, core_only: bool) -> None:
    if tally.failed is not None:
        print(many.failure(tally.failed, ANY, core_only=core_only))
        many.quiet()
        many.tell_shortest(tally.failed, ANY, print, core_only=core_only)
        sys.exit(1)


def table(first: int, played: dict[str, tuple[Tally, float]]) -> list[str]:
    """Markdown: the schedules played, and an upper limit for the rate of failures that were not seen."""
    lines = [f"| at commit {commit()} | {' | '.join(played)} |", "| --- |" + " ---: |" * len(played)]
    rows: dict[str, Callable[[Tally, float], str]] = {
        "first seed": lambda _, __: f"{first:,}",
        "last seed": lambda tally, _: f"{first + tally.runs - 1:,}",
        "schedules": lambda tally, _: f"{tally.runs:,}",
        "facts": lambda tally, _: f"{tally.facts:,}",
        "faults": lambda tally, _: f"{tally.faults.total():,}",
        "failures": lambda _, __: "0",
        "hours of virtual time": lambda tally, _: f"{tally.virtual_s / 3600:,.1f}",
        "minutes": lambda _, took_s: f"{took_s / 60:.1f}",
        "schedules a second": lambda tally, took_s: f"{tally.runs / took_s:,.0f}",
        "schedules a second of CPU": lambda tally, _: f"{tally.runs / tally.cpu_s:,.0f}",
        "a failure is rarer than (95 %, 3/n)": lambda tally, _: f"1 in {tally.runs / 3:,.0f}",
    }
    for name, cell in rows.items():
        cells = (cell(tally, took_s) if tally.runs else "" for tally, took_s in played.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for kind, (tally, _) in played.items():
        if tally.runs:
            lines += [
                "",
                f"Faults, {kind}: " + ", ".join(f"{name} {n:,}" for name, n in tally.faults.most_common()) + ".",
            ]
    return lines


if __name__ == "__main__":
    main(prog_name="just sim-soak")
