"""`just sim SEED`: one schedule as a story. `just sim --runs N`: N schedules, and the story of the first that fails."""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import rich_click as click

from bench.checkout import commit
from tests.sim import core, many
from tests.sim.bounds import LEAST, Bounds
from tests.sim.faults import FAULTS
from tests.sim.many import Tally
from tests.sim.schedule import Wanted, schedule

AT_A_TIME: Final = 100  # schedules
BOUND_NAMES: Final = [name.replace("_", "-") for name in Bounds._fields]
OF_THE_CORE: Final = 2_000  # of the core


class BoundType(click.ParamType[tuple[str, int]]):
    """One bound: its name and its value, as in `window=2`."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        name, _, number = str(value).partition("=")
        if name not in BOUND_NAMES:
            self.fail(f"{name} is not one of {', '.join(BOUND_NAMES)}", param, ctx)
        least = LEAST.get(name.replace("-", "_"), 1)
        if not number.isdecimal() or int(number) < least:
            self.fail(f"{value} needs a whole number, {least} or more", param, ctx)
        return name.replace("-", "_"), int(number)


BOUND: Final = BoundType()


@click.command("sim", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("seed", type=int, required=False)
@click.option("--runs", type=click.IntRange(1), help="How many schedules, seeds from --first on.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed of --runs.")
@click.option(
    "--fault", "kinds", type=click.Choice(sorted(FAULTS)), multiple=True, help="Only such faults; may be repeated."
)
@click.option(
    "--bound",
    "bounds",
    type=BOUND,
    multiple=True,
    help=f"A bound for all services, such as window=2; may be repeated. Bounds: {', '.join(BOUND_NAMES)}.",
)
@click.option("--core", "core_only", is_flag=True, help="Deciders and reactions alone, deliveries at any time.")
@click.option("--shrink/--no-shrink", "shrinking", default=True, help="Whether to look for a shortest one that fails.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes. Default: one a core.")
def main(
    *,
    seed: int | None,
    runs: int | None,
    first: int,
    kinds: tuple[str, ...],
    bounds: tuple[tuple[str, int], ...],
    core_only: bool,
    shrinking: bool,
    jobs: int,
) -> None:
    """The services over a model of the broker and their stores: crashes, losses, repeats, in virtual time.

    Exit code 0: all invariants held; 1: one did not, and the shortest schedule that shows it was printed; 2: wrong
    usage.
    """
    many.quiet()
    if (seed is None) == (runs is None):
        raise click.UsageError("either a seed or --runs")
    if core_only and (kinds or bounds):
        raise click.UsageError("--core has neither --fault nor --bound")
    wanted = Wanted(kinds, bounds)
    if seed is not None:
        held = many.tell_core(core.plan(seed), print) if core_only else many.handle(schedule(seed, wanted), print)
        sys.exit(0 if held else 1)
    assert runs is not None
    began = time.perf_counter()
    play: Callable[[range], Tally] = many.of_the_core if core_only else partial(many.of_services, wanted)
    total, size = Tally(), OF_THE_CORE if core_only else AT_A_TIME
    with many.processes(jobs) as pool:
        for tally in many.played(pool, jobs, play, many.ranges(first, runs, size)):
            total = total.plus(tally)
    if total.failed is not None:
        print(many.failure(total.failed, wanted, core_only=core_only))
        if shrinking:
            many.tell_shortest(total.failed, wanted, print, core_only=core_only)
        sys.exit(1)
    took = time.perf_counter() - began
    print(f"{runs:,} schedules from seed {first} at commit {commit()}: nothing lost, doubled or stuck")
    print(f"{total.facts:,} facts in {took:.1f} s, {runs / took:,.0f} schedules a second, ", end="")
    print(f"{runs / total.cpu_s:,.0f} a second of each core")
    if not core_only:
        print(f"{total.virtual_s / 3600:,.1f} hours of virtual time, {total.archived:,} generations archived")
    print("faults: " + ", ".join(f"{kind} {times:,}" for kind, times in total.faults.most_common()))


if __name__ == "__main__":
    main(prog_name="just sim")
