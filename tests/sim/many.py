"""Plays many schedules on many cores, a range of seeds at a time: their tally, and the story of one that failed."""

import contextlib
import gc
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import structlog

from bench.checkout import commit
from tests.domain.plan import Plan
from tests.sim import core
from tests.sim.run import run
from tests.sim.schedule import Schedule, Wanted, schedule, shorter
from tests.sim.shrink import shrink

AHEAD: Final = 3
"""Ranges that wait for a process, so that no process has to wait for a range."""

COLLECT_AFTER: Final = 20  # schedules of whole services

SMOOTH: Final = frozenset({"place", "deliver", "add_stock", "charge"})
"""Steps of the core that are not faults."""


@dataclass(frozen=True)
class Tally:
    """The results of schedules with consecutive seeds."""

    runs: int = 0
    facts: int = 0
    cpu_s: float = 0.0
    virtual_s: float = 0.0
    archived: int = 0
    """How many generations were archived."""
    faults: Counter[str] = field(default_factory=Counter)
    failed: int | None = None
    """The seed of the first schedule that failed; later ones were not played."""

    def plus(self, other: "Tally") -> "Tally":
        return Tally(
            self.runs + other.runs,
            self.facts + other.facts,
            self.cpu_s + other.cpu_s,
            self.virtual_s + other.virtual_s,
            self.archived + other.archived,
            self.faults + other.faults,
            self.failed if self.failed is not None else other.failed,
        )


def of_services(wanted: Wanted, seeds: range) -> Tally:
    """Schedules of whole services."""
    facts, virtual_s, archived, faults, began = 0, 0.0, 0, Counter[str](), time.process_time()
    with collecting_by_hand():
        for n, seed in enumerate(seeds, 1):
            plan = schedule(seed, wanted)
            outcome = run(plan)
            facts, virtual_s = facts + outcome.facts, virtual_s + outcome.virtual_s
            archived += outcome.archived
            faults.update(fault.kind for fault in plan.faults)
            if outcome.wrong:
                return Tally(n, facts, time.process_time() - began, virtual_s, archived, faults, seed)
            if n % COLLECT_AFTER == 0:
                gc.collect(0)  # what came since the last time, not what was imported
    return Tally(len(seeds), facts, time.process_time() - began, virtual_s, archived, faults)


def of_the_core(seeds: range) -> Tally:
    """Schedules of the core alone. They leave no cycles behind, so there is nothing to collect."""
    facts, faults, began = 0, Counter[str](), time.process_time()
    with collecting_by_hand():
        for n, seed in enumerate(seeds, 1):
            plan = core.plan(seed)
            outcome = core.outcome(plan)
            facts += outcome.facts
            faults.update(step for step, _ in plan.steps if step not in SMOOTH)
            if outcome.wrong:
                return Tally(n, facts, time.process_time() - began, faults=faults, failed=seed)
    return Tally(len(seeds), facts, time.process_time() - began, faults=faults)


@contextlib.contextmanager
def collecting_by_hand() -> Iterator[None]:
    """Disable garbage collection, which runs every few hundred objects and costs a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def processes(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, initializer=quiet)


def quiet() -> None:
    """Silence the logs of thousands of services, which are not read."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def played(
    pool: ProcessPoolExecutor, jobs: int, play: Callable[[range], Tally], ranges: Iterable[range]
) -> Iterator[Tally]:
    """The tallies of all ranges in their order, up to the first that has a failure."""
    waiting: deque[Future[Tally]] = deque()
    coming = iter(ranges)
    while True:
        waiting.extend(pool.submit(play, seeds) for seeds in islice(coming, jobs + AHEAD - len(waiting)))
        if not waiting:
            return
        yield (tally := waiting.popleft().result())
        if tally.failed is not None:
            for future in waiting:
                future.cancel()
            return


def ranges(first: int, runs: int, size: int) -> Iterator[range]:
    """The seeds from the first on, in ranges of `size`."""
    for start in range(first, first + runs, size):
        yield range(start, min(start + size, first + runs))


# Of one that failed ---------------------------------------------------------------------------------------------------


def tell_shortest(seed: int, wanted: Wanted, say: Callable[[str], None], *, core_only: bool) -> None:
    say("the shortest schedule found that does:")
    if core_only:
        tell_core(shrink(core.plan(seed), core.shorter, lambda plan: bool(core.outcome(plan).wrong)), say)
    else:
        handle(shrink(schedule(seed, wanted), shorter, lambda plan: bool(run(plan).wrong)), say)


def handle(plan: Schedule, say: Callable[[str], None]) -> bool:
    """Print the story of the schedule. Returns whether all invariants held."""
    say(f"stock {plan.stock}, points {plan.balances}, coupons {plan.coupons}; bounds: {plan.bounds}")
    for wish in plan.wishes:
        say(f"wish: {wish}")
    return not run(plan, say).wrong


def tell_core(plan: Plan, say: Callable[[str], None]) -> bool:
    """Print the story of the plan. Returns whether all invariants held."""
    say(f"stock {plan.stock}, points {plan.balances}, newest first: {plan.newest_first}")
    for wish in plan.wishes:
        say(f"wish: {wish}")
    say("steps: " + ", ".join(f"{step} {pick}" for step, pick in plan.steps))
    return not core.outcome(plan, say).wrong


def failure(seed: int, wanted: Wanted, *, core_only: bool) -> str:
    """The failure in words, and how to see it again."""
    only = " --core" if core_only else wanted.arguments
    return f"seed {seed} fails at commit {commit()}: just sim {seed}{only}"
