"""The phases of the bench, and one run of one system through one of them."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final

from msgspec import Struct

from bench import load, measure
from bench.load import Job
from bench.systems import SYSTEMS, System
from bench.wares import Wares

WARM_UP: Final = 500  # orders


class Phase(Struct, frozen=True):
    """A closed loop of `clients` that place `orders` in all, or an open one of `seconds` at `rate` orders a second.

    `half`: the rate is half the rate that the system had in c64.
    """

    name: str
    says: str
    orders: int = 0
    clients: int = 0
    rate: float = 0.0
    half: bool = False
    seconds: float = 0.0
    products: int = 100
    refusals: bool = False


PHASES: Final = (
    Phase("c64", "64 clients, each waits for its answer before it orders again", orders=8_000, clients=64),
    Phase("c256", "256 clients", orders=8_000, clients=256),
    Phase("hot", "64 clients, all of them want the one product there is", orders=5_000, clients=64, products=1),
    Phase("mix", "64 clients, one order in five is refused and undone", orders=6_000, clients=64, refusals=True),
    Phase("low", "20 orders a second, evenly, whatever becomes of the ones before", rate=20.0, seconds=15.0),
    Phase("half", "half as many a second as in c64, evenly", half=True, seconds=8.0),
)


class Row(Struct):
    """The result of one system in one phase. Latencies in milliseconds, memory in 10⁶ bytes."""

    phase: str
    system: str
    orders: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_1000: float
    cpu_of: dict[str, float]
    """The CPU seconds for 1000 orders of each process, its children included."""
    memory_mb: float
    ends: dict[str, int]


def run(
    phase: Phase,
    system: str,
    rate: float | None = None,
    shrink: float = 1.0,
    *,
    systems: Mapping[str, Callable[[Path], System]] = SYSTEMS,
) -> Row:
    """Run a system of its own through a phase and verify the results. `rate`: the open loop's, for a `half` phase.

    Raises LoadFailed, WentWrong, StartFailed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, systems[system](Path(folder)) as running:
        if phase.half and rate is None:
            raise ValueError(f"{phase.name} needs a rate")
        rate = rate if phase.half else phase.rate or None
        orders = int(shrink * (phase.orders if rate is None else rate * phase.seconds))
        return through(running, phase, system, Wares(orders + WARM_UP, phase.products, 1_000, phase.refusals), rate)


def through(running: System, phase: Phase, name: str, wares: Wares, rate: float | None) -> Row:
    """Run the running system, which has nothing of these wares yet, through the phase."""

    def job(do: str, **more: object) -> Job:
        return Job(do=do, urls=running.urls, wares=wares, **more)  # type: ignore[arg-type]

    load.run(job("open"))
    load.run(job("place", last=WARM_UP))
    pids = list(running.pids.values())
    placing = job("place", first=WARM_UP, last=wares.orders, clients=phase.clients, rate=rate)
    with measure.peak_memory_mb(pids) as peak:
        before = {name: measure.cpu_s([pid]) for name, pid in running.pids.items()}
        done = load.run(placing)
        used = {name: measure.cpu_s([pid]) - before[name] for name, pid in running.pids.items()}
    load.run(job("check"))
    running.prove()
    orders = wares.orders - WARM_UP
    p50, p99 = percentiles(done.latencies)
    return Row(
        phase=phase.name,
        system=name,
        orders=orders,
        per_s=orders / done.seconds,
        p50_ms=1_000 * p50,
        p99_ms=1_000 * p99,
        cpu_s_per_1000=1_000 * sum(used.values()) / orders,
        cpu_of={name: 1_000 * seconds / orders for name, seconds in used.items()},
        memory_mb=peak[0],
        ends=done.ends,
    )


def percentiles(latencies: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th percentile."""
    cuts = quantiles(latencies, n=100, method="inclusive")
    return cuts[49], cuts[98]
