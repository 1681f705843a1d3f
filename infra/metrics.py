"""The instruments of a process's metrics: counters, histograms and gauges, with labels from closed sets.

To count costs a fraction of a microsecond: plain integers and lists are changed, and a histogram finds its bucket by
bisection. The format of Prometheus is made at a scrape (infra/http/operators/metrics.py). Take no id of what
clients send as a label's value: each value is another series.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

Labels = tuple[str, ...]
"""The names of an instrument's labels, or their values in their sequence; empty without labels."""

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Bounds of histograms of single steps: requests, deliveries, decisions."""


class Counter:
    """Counts from 0 when it is made: add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Histogram:
    """Counts each value at the first of `bounds` that is not below it, and adds the values up in `total`."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are in ascending order; values above the last bound are counted, too."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def cumulative(self) -> list[int]:
        """How many values are at most as large as each bound; at the end, how many there are in all."""
        return list(accumulate(self.counts))


class Counters(NamedTuple):
    """Counters of one name, by the values of their labels."""

    name: str
    description: str
    labels: Labels
    children: Mapping[Labels, Counter]


class Histograms(NamedTuple):
    """Histograms of one name, by the values of their labels."""

    name: str
    description: str
    labels: Labels
    children: Mapping[Labels, Histogram]


class Readings(NamedTuple):
    """Gauges or counters of one name that the caller keeps: `read` returns their values by the values of the labels."""

    name: str
    description: str
    labels: Labels
    read: Callable[[], Mapping[Labels, float]]
    rising: bool
    """Whether they are counters: they only rise, or begin again at 0."""


class Metrics:
    """All instruments of one process. Make each instrument once, at the start; their names must differ.

    The functions that `gauge`, `gauges_by` and `counters_of` take must not wait: they return what is in memory.
    """

    def __init__(self) -> None:
        self.counters: list[Counters] = []
        self.histograms: list[Histograms] = []
        self.readings: list[Readings] = []

    def counter(self, name: str, description: str) -> Counter:
        return self.counters_by(name, description, (), [()])[()]

    def counters_by(
        self, name: str, description: str, labels: Labels, children: Iterable[Labels]
    ) -> dict[Labels, Counter]:
        """Make a counter for each combination of label values in `children`; each is exported from the start.

        Returns the counters by label values.
        """
        made = {values: Counter() for values in children}
        self.counters.append(Counters(name, description, labels, made))
        return made

    def counters_of(
        self, name: str, description: str, labels: Labels, read: Callable[[], Mapping[Labels, float]]
    ) -> None:
        """Export counts that the caller keeps: `read` returns them at each scrape, by the values of the labels."""
        self.readings.append(Readings(name, description, labels, read, rising=True))

    def histogram(self, name: str, description: str, bounds: Sequence[float]) -> Histogram:
        return self.histograms_by(name, description, bounds, (), [()])[()]

    def histograms_by(
        self, name: str, description: str, bounds: Sequence[float], labels: Labels, children: Iterable[Labels]
    ) -> dict[Labels, Histogram]:
        """Make a histogram for each combination of label values in `children`; return them by label values.

        A histogram that the caller adds to the returned dict later is exported, too.
        """
        made = {values: Histogram(bounds) for values in children}
        self.histograms.append(Histograms(name, description, labels, made))
        return made

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        self.gauges_by(name, description, (), lambda: {(): read()})

    def gauges_by(
        self, name: str, description: str, labels: Labels, read: Callable[[], Mapping[Labels, float]]
    ) -> None:
        """Export gauges: `read` returns their present values at each scrape, by the values of the labels."""
        self.readings.append(Readings(name, description, labels, read, rising=False))
