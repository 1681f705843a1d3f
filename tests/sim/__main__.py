"""`just sim SEED`: one schedule as a story. `just sim --runs N`: N schedules, and the story of the first that fails."""

import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final, NamedTuple

import rich_click as click
import structlog

from tests.domain.plan import Plan
from tests.sim import core
from tests.sim.faults import FAULTS
from tests.sim.run import run
from tests.sim.schedule import Schedule, schedule, shorter
from tests.sim.shrink import shrink

CHUNK: Final = 100  # schedules


class Tally(NamedTuple):
    facts: int
    virtual_s: float
    faults: Counter[str]
    failed: int | None
    """The seed of the first that failed."""


@click.command("sim", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("seed", type=int, required=False)
@click.option("--runs", type=click.IntRange(1), help="How many schedules, seeds from --first on.")
@click.option("--first", type=int, default=0, show_default=True, help="The first seed of --runs.")
@click.option(
    "--fault", "kinds", type=click.Choice(sorted(FAULTS)), multiple=True, help="Only such faults; may be repeated."
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
    core_only: bool,
    shrinking: bool,
    jobs: int,
) -> None:
    """The services over a model of the broker and their stores: crashes, losses, repeats, in virtual time.

    Exit code 0: all invariants held; 1: not, and a shortest schedule that shows it was told; 2: wrong usage.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if (seed is None) == (runs is None):
        raise click.UsageError("either a seed or --runs")
    if core_only and kinds:
        raise click.UsageError("--core has no --fault")
    if seed is not None:
        sys.exit(_tell_core(core.plan(seed)) if core_only else _tell(schedule(seed, kinds)))
    assert runs is not None
    began = time.perf_counter()
    facts, virtual_s, faults = 0, 0.0, Counter[str]()
    chunks = [range(start, min(start + CHUNK, first + runs)) for start in range(first, first + runs, CHUNK)]
    with ProcessPoolExecutor(jobs) as pool:
        for tally in pool.map(partial(_many, kinds, core_only), chunks):
            facts, virtual_s, faults = facts + tally.facts, virtual_s + tally.virtual_s, faults + tally.faults
            if tally.failed is not None:
                pool.shutdown(cancel_futures=True)
                only = " --core" if core_only else "".join(f" --fault {kind}" for kind in kinds)
                print(f"seed {tally.failed} fails at commit {_commit()}: just sim {tally.failed}{only}")
                if shrinking:
                    print("the shortest schedule found that does:")
                    _tell_shortest(tally.failed, kinds, core_only=core_only)
                sys.exit(1)
    took = time.perf_counter() - began
    print(f"{runs:,} schedules from seed {first} at commit {_commit()}: nothing lost, doubled or stuck")
    print(f"{facts:,} facts in {took:.1f} s, {runs / took:,.0f} schedules a second")
    if not core_only:
        print(f"{virtual_s / 3600:,.1f} hours of virtual time")
        print("faults: " + ", ".join(f"{kind} {times:,}" for kind, times in faults.most_common()))


def _many(kinds: Collection[str], core_only: bool, seeds: range) -> Tally:
    facts, virtual_s, faults = 0, 0.0, Counter[str]()
    for seed in seeds:
        if core_only:
            outcome = core.outcome(core.plan(seed))
        else:
            plan = schedule(seed, kinds)
            outcome = run(plan)
            faults.update(fault.kind for fault in plan.faults)
        facts, virtual_s = facts + outcome.facts, virtual_s + outcome.virtual_s
        if outcome.wrong:
            return Tally(facts, virtual_s, faults, seed)
    return Tally(facts, virtual_s, faults, None)


def _tell_shortest(seed: int, kinds: Collection[str], *, core_only: bool) -> None:
    if core_only:
        _tell_core(shrink(core.plan(seed), core.shorter, lambda plan: bool(core.outcome(plan).wrong)))
    else:
        _tell(shrink(schedule(seed, kinds), shorter, lambda plan: bool(run(plan).wrong)))


def _tell(plan: Schedule) -> int:
    print(f"stock {plan.stock}, points {plan.balances}, coupons {plan.coupons}")
    for wish in plan.wishes:
        print(f"wish: {wish}")
    return 1 if run(plan, print).wrong else 0


def _tell_core(plan: Plan) -> int:
    print(f"stock {plan.stock}, points {plan.balances}, newest first: {plan.newest_first}")
    for wish in plan.wishes:
        print(f"wish: {wish}")
    print("steps: " + ", ".join(f"{step} {pick}" for step, pick in plan.steps))
    return 1 if core.outcome(plan, print).wrong else 0


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
