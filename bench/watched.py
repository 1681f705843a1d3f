"""What it costs to be watched: c64 with metrics and the dashboard beside c64 without, and with traces beside without.

Each pair has one run of either side, one right after the other; which of them is first alternates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import comb
from pathlib import Path
from statistics import median
from typing import Final

from msgspec import Struct

from bench.phases import PHASES, Row, run
from bench.systems import Saga, System
from bench.systems.watched import VIEWERS, Traced, Unmeasured, Viewed

C64: Final = PHASES[0]
PAIRS: Final = 15
UNMEASURED: Final = "without metrics"
PLAIN: Final = "saga"
VIEWED: Final = f"dashboard, {VIEWERS} viewers"
TRACED: Final = "traces of a tenth"
SIDES: Final[dict[str, Callable[[Path], System]]] = {
    UNMEASURED: Unmeasured,
    PLAIN: Saga,
    VIEWED: Viewed,
    TRACED: Traced,
}
COMPARED: Final = ((PLAIN, UNMEASURED), (VIEWED, UNMEASURED), (TRACED, PLAIN))
"""What is compared, and with what."""
CONFIDENCE: Final = 0.95


class Cost(Struct, frozen=True):
    """What `of` reaches as a share of what `beside` reaches: orders a second, the median of the pairs.

    `low`, `high`: the interval that holds the median of all such pairs with a probability of at least 95 %; without
    enough pairs for it, the lowest and the highest. `cpu`: the median share of the CPU seconds an order.
    """

    of: str
    beside: str
    pairs: int
    per_s: float
    low: float
    high: float
    cpu: float


def measure_watched(pairs: int, shrink: float = 1.0) -> Iterator[Row]:
    """Run every side this often, in turns, and yield each row. Raises LoadFailed, WentWrong, StartFailed."""
    return measure_sides("watched", SIDES, pairs, shrink)


def measure_sides(
    phase: str, sides: Mapping[str, Callable[[Path], System]], pairs: int, shrink: float
) -> Iterator[Row]:
    """Run c64 on every side this often, in turns; yield each row, as of this phase."""
    for number in range(pairs):
        for side in sides if number % 2 == 0 else reversed(list(sides)):
            row = run(C64, side, shrink=shrink, systems=sides)
            row.phase = phase
            yield row


def costs(rows: list[Row], compared: Sequence[tuple[str, str]] = COMPARED) -> list[Cost]:
    """Compare the sides, run by run in the order in which they ran."""
    found = []
    for of, beside in compared:
        mine, others = ([row for row in rows if row.system == side] for side in (of, beside))
        pairs = list(zip(mine, others, strict=False))
        if pairs:
            shares = [one.per_s / other.per_s for one, other in pairs]
            low, high = interval(shares)
            cpu = median(one.cpu_s_per_1000 / other.cpu_s_per_1000 for one, other in pairs)
            found.append(Cost(of, beside, len(pairs), median(shares), low, high, cpu))
    return found


def interval(values: list[float]) -> tuple[float, float]:
    """The interval of the median of what these were drawn from, from their order alone."""
    count, ordered = len(values), sorted(values)
    cut, outside = 0, 2 * 0.5**count
    while cut + 1 < count / 2 and outside + 2 * comb(count, cut + 1) * 0.5**count <= 1 - CONFIDENCE:
        cut += 1
        outside += 2 * comb(count, cut) * 0.5**count
    return ordered[cut], ordered[-1 - cut]
