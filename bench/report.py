"""The results of a bench: its rows, their medians, and the comparison of the saga with its baselines."""

import math
import os
import platform
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct, field

from bench import secured
from bench.ceilings import Ceiling
from bench.checkout import commit
from bench.growth import Grown
from bench.overload import AS_BEFORE, Overloaded
from bench.phases import Row
from bench.watched import PLAIN, TRACED, UNMEASURED, VIEWED, Cost, costs
from bench.years import SHARES, Long, Rolled, Steady, Tenth, Years, share_phase


class Results(Struct):
    """The results of a bench. `rows`: every run as it was."""

    made_at: datetime
    commit: str
    machine: str
    runs: int
    quick: bool
    rows: list[Row] = field(default_factory=list)
    ceilings: list[Ceiling] = field(default_factory=list)
    growth: list[Grown] = field(default_factory=list)
    overload: list[Overloaded] = field(default_factory=list)
    years: Years | None = None
    watched: list[Row] = field(default_factory=list)
    secured: list[Row] = field(default_factory=list)
    """The runs of both sides of each pair, in the order in which they ran."""

    @property
    def measured(self) -> bool:
        """Whether there is a result."""
        return any(
            (
                self.rows,
                self.ceilings,
                self.growth,
                self.overload,
                self.years not in (None, Years()),
                self.watched,
                self.secured,
            )
        )


class Bar(NamedTuple):
    """A target for the medians: `measured` must be at least `at_least` and at most `at_most`."""

    says: str
    measured: Callable[["Medians"], float | None]
    at_least: float = 0.0
    at_most: float = float("inf")


class Ratio(NamedTuple):
    says: str
    measured: float
    wanted: str
    met: bool


class Medians:
    """The medians over the runs of each system in each phase; None where there was no run."""

    def __init__(self, results: Results) -> None:
        self.growth = results.growth
        self.overload = results.overload
        self.years = results.years or Years()
        found = [*costs(results.watched), *costs(results.secured, secured.COMPARED)]
        self.costs = {(cost.of, cost.beside): cost for cost in found}
        self._rows: dict[tuple[str, str], list[Row]] = {}
        for row in (*results.rows, *self.years.rates):
            self._rows.setdefault((row.phase, row.system), []).append(row)

    def get(self, phase: str, system: str, value: str) -> float | None:
        rows = self._rows.get((phase, system))
        return median(getattr(row, value) for row in rows) if rows else None

    def ratio(self, phase: str, value: str, system: str = "monolith") -> float | None:
        """The saga's median divided by that system's."""
        saga, other = self.get(phase, "saga", value), self.get(phase, system, value)
        return None if saga is None or other is None else saga / other

    @property
    def measured(self) -> list[tuple[str, str]]:
        """The phases and systems, in the order in which they were first measured."""
        return list(self._rows)


def _of(phase: str, value: str, system: str = "monolith") -> Callable[[Medians], float | None]:
    return lambda medians: medians.ratio(phase, value, system)


def _longest(value: Callable[[Grown], float]) -> Callable[[Medians], float | None]:
    """The value after the longest history."""
    return lambda medians: value(medians.growth[-1]) if medians.growth else None


def _worst(value: str) -> Callable[[Medians], float | None]:
    """The highest value of all overloads."""

    def worst(medians: Medians) -> float | None:
        values = [getattr(overloaded, value) for overloaded in medians.overload]
        return max((math.inf if value is None else value for value in values), default=None)

    return worst


def _flat(medians: Medians) -> float | None:
    """The largest growth of a service's memory: after the longest history, divided by that after the shortest."""
    if len(medians.growth) < 2:
        return None
    short, long = medians.growth[0].memory_mb, medians.growth[-1].memory_mb
    return max(long[name] / short[name] for name in short if name != "nats")


def _long(name: str, value: Callable[[Long], float]) -> Callable[[Medians], float | None]:
    """The value of the long run by many users or by one: `many`, `one`."""

    def of(medians: Medians) -> float | None:
        long: Long | None = getattr(medians.years, name)
        return None if long is None else value(long)

    return of


def _steady(value: Callable[[Steady], float]) -> Callable[[Medians], float | None]:
    return lambda medians: None if medians.years.steady is None else value(medians.years.steady)


def _last(value: Callable[[Tenth], float]) -> Callable[[Long], float]:
    """The last tenth's value, divided by the first one's."""
    return lambda long: long.ratio(value)


def _rolled(value: Callable[[Rolled], float]) -> Callable[[Medians], float | None]:
    return lambda medians: None if medians.years.rolled is None else value(medians.years.rolled)


def _cost(
    of: str, beside: str, what: Callable[[Cost], float] = lambda cost: cost.per_s
) -> Callable[[Medians], float | None]:
    """Orders a second, or `what` else, as a share of that beside it."""

    def share(medians: Medians) -> float | None:
        cost = medians.costs.get((of, beside))
        return None if cost is None else what(cost)

    return share


LONG_BARS: Final = tuple(
    bar
    for name, says in (("many", "years"), ("one", "years, one user"))
    for bar in (
        Bar(f"{says}: orders/s, × first tenth", _long(name, _last(lambda tenth: tenth.per_s)), at_least=0.85),
        Bar(f"{says}: p99, × first tenth", _long(name, _last(lambda tenth: tenth.p99_ms)), at_most=2.0),
        Bar(f"{says}: worst p99 of a tenth, × first", _long(name, lambda long: long.worst_p99), at_most=2.5),
        Bar(
            f"{says}: broker's CPU, × first tenth", _long(name, _last(lambda tenth: tenth.cpu_ms["nats"])), at_most=1.4
        ),
        Bar(f"{says}: a service's CPU, × first tenth", _long(name, lambda long: long.service_cpu), at_most=1.2),
        Bar(f"{says}: refused", _long(name, lambda long: long.refused), at_most=0.0),
    )
)
LOW, MIDDLE, HIGH = map(share_phase, SHARES)

BARS: Final = (
    Bar("c64: orders/s, × monolith", _of("c64", "per_s"), at_least=2.5),
    Bar("c256: orders/s, × monolith", _of("c256", "per_s"), at_least=3.5),
    Bar("c256: orders/s, × one process", _of("c256", "per_s", "one-process"), at_least=1.0),
    Bar("hot: orders/s, × monolith", _of("hot", "per_s"), at_least=5.0),
    Bar("mix: orders/s, × monolith", _of("mix", "per_s"), at_least=2.0),
    Bar("low: p50, × monolith", _of("low", "p50_ms"), at_most=2.0),
    Bar("low: p99, × monolith", _of("low", "p99_ms"), at_most=2.5),
    *(
        Bar(f"{phase}: CPU an order, × monolith", _of(phase, "cpu_s_per_1000"), at_most=0.5)
        for phase in ("c64", "c256", "hot", "mix", "low", "half")
    ),
    Bar("growth: CPU an order, × empty system", _longest(lambda grown: grown.cpu_ratio), at_most=1.15),
    Bar("growth: cold start, s", _longest(lambda grown: median(grown.cold_start_s)), at_most=5.0),
    Bar("growth: broker's memory, MB", _longest(lambda grown: grown.memory_mb["nats"]), at_most=550.0),
    Bar(
        "growth: a service's memory, MB",
        _longest(lambda grown: max(mb for name, mb in grown.memory_mb.items() if name != "nats")),
        at_most=120.0,
    ),
    Bar("growth: a service's memory, × after the short history", _flat, at_most=1.1),
    Bar("overload: a service's memory at the end, × in its second quarter", _worst("growth"), at_most=1.1),
    Bar("overload: p50 afterwards, × before", _worst("slower_after"), at_most=AS_BEFORE),
    Bar("overload: s until latency is as before", _worst("normal_after_s"), at_most=10.0),
    Bar("overload: refused afterwards", _worst("refused_after"), at_most=0.0),
    *LONG_BARS,
    Bar(f"{LOW}: p50, × monolith", _of(LOW, "p50_ms"), at_most=1.5),
    Bar(f"{MIDDLE}: p50, × monolith", _of(MIDDLE, "p50_ms"), at_most=2.5),
    Bar(f"{MIDDLE}: CPU an order, × monolith", _of(MIDDLE, "cpu_s_per_1000"), at_most=2.0),
    Bar(f"{HIGH}: p50, × monolith", _of(HIGH, "p50_ms"), at_most=3.0),
    Bar("steady: slowest answer, ms", _steady(lambda steady: steady.max_ms), at_most=250.0),
    Bar("steady: refused", _steady(lambda steady: steady.refused), at_most=0.0),
    Bar("rolled: broker's memory at the end, × after two", _rolled(lambda rolled: rolled.memory), at_most=1.2),
    Bar("rolled: refused", _rolled(lambda rolled: rolled.refused), at_most=0.0),
    Bar(f"watched: {VIEWED}: orders/s, × {UNMEASURED}", _cost(VIEWED, UNMEASURED), at_least=0.97),
    Bar(f"secured: {secured.SECURED}: orders/s, × {secured.OPEN}", _cost(secured.SECURED, secured.OPEN), at_least=0.9),
    Bar(
        f"secured: {secured.SECURED}: CPU an order, × {secured.OPEN}",
        _cost(secured.SECURED, secured.OPEN, lambda cost: cost.cpu),
        at_most=1.12,
    ),
    Bar(f"watched: {TRACED}: orders/s, × {PLAIN}", _cost(TRACED, PLAIN), at_least=0.95),
)


def ratios(results: Results) -> list[Ratio]:
    """The saga compared with its targets; ratios without a measurement are left out."""
    medians = Medians(results)
    found = []
    for bar in BARS:
        measured = bar.measured(medians)
        if measured is not None:
            wanted = f"≥ {bar.at_least:g}" if bar.at_least else f"≤ {bar.at_most:g}"
            found.append(Ratio(bar.says, measured, wanted, bar.at_least <= measured <= bar.at_most))
    return found


def new(runs: int, *, quick: bool) -> Results:
    return Results(datetime.now(UTC), commit(), _machine(), runs, quick)


def write(results: Results, path: Path) -> None:
    told = {**msgspec.to_builtins(results), "ratios": [ratio._asdict() for ratio in ratios(results)]}
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
    unfinished.replace(path)  # a bench that is killed meanwhile leaves the file whole


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu()}, {cores} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _cpu() -> str:
    with_names: Iterable[str] = ()
    if Path("/proc/cpuinfo").exists():
        with_names = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in with_names if line.startswith("model name")), platform.machine())
