"""The cost of a long history: the saga's CPU and memory after a million facts, beside an empty saga; its cold start."""

import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import psutil
from msgspec import Struct

from bench import history, measure
from bench.phases import PHASES, WARM_UP, through
from bench.systems import Saga
from bench.wares import Wares

C64: Final = PHASES[0]
ORDERS: Final = 6_000
QUIET_S: Final = 1.0
QUIET_CPU_S: Final = 0.05


class Grown(Struct):
    """The saga after a history of `facts`.

    `cold_start_s`: from the first process started until all are ready. `memory_mb`: of each process, after the load.
    `cpu_s_per_1000` and `empty_cpu_s_per_1000`: of every run with and without the history, measured alternately.
    """

    facts: int
    cold_start_s: list[float]
    cpu_s_per_1000: list[float]
    empty_cpu_s_per_1000: list[float]
    memory_mb: dict[str, float]

    @property
    def cpu_ratio(self) -> float:
        """The median CPU time with the history, divided by the median without it."""
        return median(self.cpu_s_per_1000) / median(self.empty_cpu_s_per_1000)


def measure_growth(lengths: Sequence[int], runs: int) -> Iterator[Grown]:
    """Measure the saga after histories of these lengths (facts). Raises LoadFailed, WentWrong, StartFailed."""
    return (_measure(facts, runs) for facts in lengths)


def _measure(facts: int, runs: int) -> Grown:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        with history.made(Path(folder), facts) as (_, made):
            grown = Grown(made, [], [], [], {})
        with Saga(Path(folder)) as saga:
            until_quiet(saga.pids.values())  # its read models are complete now, as in any system that starts again
        for run in range(runs):
            with tempfile.TemporaryDirectory(prefix="bench-") as empty, Saga(Path(empty)) as saga:
                grown.empty_cpu_s_per_1000.append(_load(saga, "empty-"))
            began = time.perf_counter()
            with Saga(Path(folder)) as saga:
                grown.cold_start_s.append(time.perf_counter() - began)
                grown.cpu_s_per_1000.append(_load(saga, f"run{run}-"))
                for name, pid in saga.pids.items():
                    used = psutil.Process(pid).memory_info().rss / 1e6
                    grown.memory_mb[name] = max(used, grown.memory_mb.get(name, 0.0))
    return grown


def _load(saga: Saga, prefix: str) -> float:
    row = through(saga, C64, "saga", Wares(ORDERS + WARM_UP, prefix=prefix), None)
    return row.cpu_s_per_1000


def until_quiet(pids: Collection[int]) -> None:
    """Returns when these processes have used hardly any CPU for a second."""
    used = -1.0
    while True:
        before, used = used, measure.cpu_s(pids)
        if before >= 0 and used - before < QUIET_CPU_S:
            return
        time.sleep(QUIET_S)
