"""Measures the saga while ten times as many orders arrive as it can process, and afterwards."""

import contextlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import psutil
from msgspec import Struct

from bench import load, measure
from bench.flood import Came, Flooded
from bench.load import Job
from bench.phases import percentiles
from bench.systems import Saga, WentWrong
from bench.wares import Wares
from infra.tuning import raise_open_file_limit

PRODUCTS: Final = 200
TIMES: Final = 10
WARM_UP_S: Final = 3.0
SUSTAINED_S: Final = 10.0
CLIENTS: Final = 256
HALF_S: Final = 15.0
OVERLOAD_S: Final = 60.0
CROWD: Final = 8_192  # connections
OTHER_FILES: Final = 512
ACCEPTED: Final = frozenset({200, 202, 409})
REFUSED: Final = 503
AS_BEFORE: Final = 1.5
"""Latency is back to normal when medians are less than this many times the one before the overload."""


class Latency(Struct):
    p50_ms: float
    p99_ms: float


class Overloaded(Struct):
    """The results for orders of `lines` lines each.

    `sustained_per_s`: accepted orders with 256 clients, each waiting for its answer. `offered_per_s`: orders that
    arrived during the `seconds` of the overload; `sent_per_s`: those that found a connection. `accepted` and `refused`
    (503): the latencies of those sent; `statuses`: their number by status.

    `before`, `after`: accepted orders at half the sustained rate. `refused_before`, `refused_after`: how many orders
    were refused meanwhile. `normal_after_s`: from the last order of the overload until latency was normal. `memory_mb`:
    the maximum of each process in each quarter of the overload.
    """

    lines: int
    sustained_per_s: float
    seconds: float
    offered_per_s: float
    sent_per_s: float
    accepted_per_s: float
    statuses: dict[str, int]
    accepted: Latency
    refused: Latency
    before: Latency
    refused_before: int
    after: Latency
    refused_after: int
    normal_after_s: float | None
    memory_before_mb: dict[str, float]
    memory_mb: dict[str, list[float]]

    @property
    def growth(self) -> float:
        """The largest growth of a service's memory: the last quarter divided by the second."""
        return max(quarters[-1] / quarters[1] for name, quarters in self.memory_mb.items() if name != "nats")

    @property
    def slower_after(self) -> float:
        """The median latency afterwards, divided by the one before."""
        return self.after.p50_ms / self.before.p50_ms


def measure_overload(lines: int, shrink: float = 1.0, crowd: int = CROWD) -> Overloaded:
    """Measure an overload with orders of `lines` lines.

    Raises LoadFailed, StartFailed; WentWrong if the audit finds anything or an order was lost.
    """
    crowd = min(crowd, raise_open_file_limit() - OTHER_FILES)
    wares = Wares(0, PRODUCTS)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Saga(Path(folder)) as saga:

        def flood(seconds: float, clients: int, rate: float | None = None) -> Flooded:
            job = Job("flood", saga.urls, wares, clients=clients, rate=rate, lines=lines, seconds=seconds * shrink)
            done = load.run(job).flooded
            assert done is not None
            floods.append(done)
            return done

        floods: list[Flooded] = []
        load.run(Job("open", saga.urls, wares))
        flood(WARM_UP_S, CLIENTS)
        sustained = _sustained_per_s(flood(SUSTAINED_S, CLIENTS))
        before = flood(HALF_S, CLIENTS, sustained / 2)
        with measure.looks(lambda: _memory_mb(saga.pids)) as seen:
            over = flood(OVERLOAD_S, crowd, TIMES * sustained)
        after = flood(HALF_S, CLIENTS, sustained / 2)
        saga.prove()
        _nothing_lost(Path(folder) / "order" / "events.sqlite", floods)
    normal = _latency(_accepted(before))
    after_s = after.began - over.began - over.seconds
    normal_after_s = _normal_after_s(_accepted(after), normal.p50_ms)
    return Overloaded(
        lines=lines,
        sustained_per_s=sustained,
        seconds=over.seconds,
        offered_per_s=(len(over.came) + over.turned_away) / over.seconds,
        sent_per_s=len(over.came) / over.seconds,
        accepted_per_s=_per_s(over),
        statuses={str(status): count for status, count in Counter(came.status for came in over.came).most_common()},
        accepted=_latency(_accepted(over)),
        refused=_latency([came for came in over.came if came.status == REFUSED]),
        before=normal,
        refused_before=_refused(before),
        after=_latency(_accepted(after)),
        refused_after=_refused(after),
        normal_after_s=None if normal_after_s is None else after_s + normal_after_s,
        memory_before_mb=seen[0],
        memory_mb=_by_quarter(seen[1:]),
    )


def _accepted(flooded: Flooded) -> list[Came]:
    return [came for came in flooded.came if came.status in ACCEPTED]


def _refused(flooded: Flooded) -> int:
    return sum(came.status == REFUSED for came in flooded.came)


def _sustained_per_s(flooded: Flooded) -> float:
    """Accepted orders a second, until the last of them was answered."""
    accepted = _accepted(flooded)
    if not accepted:
        raise WentWrong("no order was accepted")
    return len(accepted) / max(came.at_s + came.after_s for came in accepted)


def _per_s(flooded: Flooded) -> float:
    """Accepted orders a second that were answered while orders were arriving."""
    in_time = [came for came in _accepted(flooded) if came.at_s + came.after_s <= flooded.seconds]
    return len(in_time) / flooded.seconds


def _latency(came: Sequence[Came]) -> Latency:
    p50, p99 = percentiles([one.after_s for one in came]) if len(came) > 1 else (0.0, 0.0)
    return Latency(1_000 * p50, 1_000 * p99)


def _normal_after_s(came: Sequence[Came], normal_p50_ms: float) -> float | None:
    """The seconds until the medians of three seconds in a row were normal (AS_BEFORE); None if they never were."""
    last = int(max((one.at_s for one in came), default=0.0))
    medians = [_latency([one for one in came if int(one.at_s) == second]).p50_ms for second in range(last + 1)]
    normal = [0 < median < AS_BEFORE * normal_p50_ms for median in medians]
    return next((float(second) for second in range(len(normal) - 2) if all(normal[second : second + 3])), None)


def _nothing_lost(log: Path, floods: Sequence[Flooded]) -> None:
    """Raises WentWrong unless the log has as many orders as were answered as accepted."""
    came = [one for flooded in floods for one in flooded.came]
    unknown = {one.status for one in came} - ACCEPTED - {REFUSED}
    if unknown:
        raise WentWrong(f"orders were answered {sorted(unknown)}")
    accepted = sum(one.status in ACCEPTED for one in came)
    with contextlib.closing(sqlite3.connect(log)) as store:
        (recorded,) = store.execute("SELECT COUNT(DISTINCT originator_id) FROM stored_events").fetchone()
    if recorded != accepted:
        raise WentWrong(f"{accepted:,} orders were taken in, and {recorded:,} are in the log")


def _memory_mb(pids: Mapping[str, int]) -> dict[str, float]:
    """The memory of each process (RSS, 10⁶ bytes)."""
    return {name: psutil.Process(pid).memory_info().rss / 1e6 for name, pid in pids.items()}


def _by_quarter(looks: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    cuts = [len(looks) * quarter // 4 for quarter in range(5)]
    parts = [looks[first:last] for first, last in pairwise(cuts) if first < last]
    return {name: [max(look[name] for look in part) for part in parts] for name in looks[0]}
