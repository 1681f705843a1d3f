"""What a shop that runs for years would see: the same load while history grows, fixed rates, and a long steady one.

`many` and `one` record orders in one run on a system that starts empty, by many users and by one, with 64 clients; each
tenth of the orders is compared with the first. `rates` measures the saga and the monolith at fixed shares of the rate
that the monolith has with 64 clients in the same run. `steady` is a fixed rate over a stream that has many subjects
already and is not rolled over. `rolled` rolls the stream over again and again, and archives it, under load.
"""

import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from typing import Final, Literal

from msgspec import Struct, field

from bench import growth, history, load, measure
from bench.load import Done, Job
from bench.measure import Usage
from bench.phases import PHASES, WARM_UP, Phase, Row, run
from bench.systems import KEEPER, Saga, WentWrong
from bench.wares import Wares
from infra.archive.manifest import file_name
from infra.broker.numbering import stream_name
from ops.cli import EXIT_FINDING

C64: Final = PHASES[0]
ORDERS: Final = 200_000
USERS: Final = 1_000
TENTHS: Final = 10
SHARES: Final = (0.02, 0.15, 0.40)
"""Of the orders a second that the monolith has in c64."""
RATE_S: Final = 30.0
STEADY_RATE: Final = 400.0
STEADY_S: Final = 60.0
SUBJECTS: Final = 600_000
ROLLS: Final = 20
BLOCKS_OF_A_LONG_RUN: Final = 4
"""Orders between two roll-overs: as many as a long run has in a quarter."""
BY_HAND: Final = {"EVENTS_ROLL_MESSAGES": "500000000"}
"""The keeper seals generations, and makes none."""
ARCHIVE_S: Final = 300.0
FACTS_A_SUBJECT: Final = 1.37
"""Of a made history: its orders hold and return the stock of a few products, each of which has one subject."""


class Tenth(Struct):
    """A tenth of the answers, in the order in which they came.

    `cpu_ms`: the CPU milliseconds an order of each process, the load generator left out. `memory_mb`: each process's
    RSS at the tenth's end.
    """

    orders: int
    per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    cpu_ms: dict[str, float]
    memory_mb: dict[str, float]


class Long(Struct):
    """A long run by as many `users`. `refused`: orders answered 503."""

    users: int
    tenths: list[Tenth]
    refused: int

    def ratio(self, value: Callable[[Tenth], float]) -> float:
        """The last tenth's value divided by the first one's."""
        return value(self.tenths[-1]) / value(self.tenths[0])

    @property
    def worst_p99(self) -> float:
        """The highest p99 of a tenth, divided by the first one's."""
        return max(tenth.p99_ms for tenth in self.tenths) / self.tenths[0].p99_ms

    @property
    def service_cpu(self) -> float:
        """The largest growth of a service's CPU an order: the last tenth, divided by the first."""
        first, last = self.tenths[0].cpu_ms, self.tenths[-1].cpu_ms
        return max(last[name] / first[name] for name in first if name not in ("nats", KEEPER))


class Steady(Struct):
    """A fixed rate over a stream of `subjects`. `refused`: orders answered 503. `memory_mb`: RSS at the end."""

    subjects: int
    rate: float
    seconds: float
    orders: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    refused: int
    memory_mb: dict[str, float]


class Block(Struct):
    """The orders that were placed while the stream rolled over once and was archived but for its last two generations.

    `archived`: how many generations are in the archive at the end. `broker_mb`: the broker's RSS once it was quiet.
    """

    orders: int
    per_s: float
    p99_ms: float
    max_ms: float
    refused: int
    archived: int
    broker_mb: float


class Rolled(Struct):
    """Blocks of orders by 64 clients, each with a roll-over; the audit at rest has read streams and archive then."""

    blocks: list[Block]

    @property
    def memory(self) -> float:
        """The broker's memory after the last block, divided by that after the second."""
        return self.blocks[-1].broker_mb / self.blocks[min(1, len(self.blocks) - 1)].broker_mb

    @property
    def refused(self) -> int:
        return sum(block.refused for block in self.blocks)


class Years(Struct):
    """The results. `rates`: rows of the phases that `share_phase` names, and of c64."""

    many: Long | None = None
    one: Long | None = None
    rates: list[Row] = field(default_factory=list)
    steady: Steady | None = None
    rolled: Rolled | None = None


PARTS: Final = ("many", "one", "rates", "steady", "rolled")


def measure_years(
    years: Years,
    parts: Sequence[str],
    runs: int,
    tell: Callable[[Row], None],
    *,
    orders: int = ORDERS,
    shrink: float = 1.0,
) -> None:
    """Measure these parts, and add their results to `years` as they come.

    `runs`: how often each fixed rate is measured; all else once. `tell` is called with each row of the rates. `orders`:
    of each long run; a block of `rolled` has a quarter of them. `shrink`: a factor for the seconds of the fixed rates,
    and for the subjects of the steady one. Raises LoadFailed, WentWrong, StartFailed.
    """
    for part in parts:
        match part:
            case "many":
                years.many = measure_long(orders, users=USERS)
            case "one":
                years.one = measure_long(orders, users=1)
            case "rates":
                for row in measure_rates(runs, shrink):
                    years.rates.append(row)
                    tell(row)
            case "steady":
                years.steady = measure_steady(int(SUBJECTS * shrink), STEADY_S * shrink)
            case "rolled":
                years.rolled = measure_rolled(orders // BLOCKS_OF_A_LONG_RUN)


# Long runs ------------------------------------------------------------------------------------------------------------


def measure_long(orders: int, users: int) -> Long:
    """Record these orders in one run on a system that starts empty. Raises LoadFailed, WentWrong, StartFailed."""
    wares = Wares(orders + WARM_UP, users=users, coupons=False)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Saga(Path(folder)) as saga:
        done, seen = _recorded(saga, wares)
    return Long(users, tenths(done, seen), len(done.refused))


def _recorded(saga: Saga, wares: Wares, rate: float | None = None) -> tuple[Done, list[Usage]]:
    """Place the orders of these wares, and verify the result. Refused orders are no mistake."""

    def job(do: str, **more: object) -> Job:
        return Job(do=do, urls=saga.urls, wares=wares, clients=C64.clients, **more)  # type: ignore[arg-type]

    load.run(job("open"))
    load.run(job("place", last=WARM_UP))
    look = measure.usage(saga.pids)
    with measure.looks(look) as seen:
        done = load.run(job("place", first=WARM_UP, last=wares.orders, rate=rate, may_refuse=True))
    seen.append(look())
    saga.prove()
    refused = set(done.refused)
    confirmed = [number for number in range(wares.orders) if number not in refused] if refused else None
    load.run(job("check", confirmed=confirmed))
    return done, seen


def tenths(done: Done, seen: Sequence[Usage]) -> list[Tenth]:
    """The tenths of a load's answers, with what the processes used meanwhile."""
    count = len(done.at)
    cuts = [count * part // TENTHS for part in range(TENTHS + 1)]
    return [_tenth(done, seen, first, last) for first, last in pairwise(cuts)]


def _tenth(done: Done, seen: Sequence[Usage], first: int, last: int) -> Tenth:
    orders = last - first
    began, ended = done.at[first - 1] if first else 0.0, done.at[last - 1]
    before, after = (_used_at(seen, done.began + at) for at in (began, ended))
    p50, p99, p999, slowest = percentiles(done.latencies[first:last])
    return Tenth(
        orders=orders,
        per_s=orders / (ended - began),
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=slowest,
        cpu_ms={name: 1_000 * (after.cpu_s[name] - used) / orders for name, used in before.cpu_s.items()},
        memory_mb=after.memory_mb,
    )


def percentiles(latencies: Sequence[float]) -> tuple[float, float, float, float]:
    """The 50th, the 99th and the 99.9th percentile, and the longest, in milliseconds."""
    cuts = quantiles(latencies, n=1_000, method="inclusive")
    p50, p99, p999, slowest = cuts[499], cuts[989], cuts[998], max(latencies)
    return 1_000 * p50, 1_000 * p99, 1_000 * p999, 1_000 * slowest


def _used_at(seen: Sequence[Usage], at: float) -> Usage:
    """What was used until then, in proportion between the two looks around it."""
    later = min(max(1, bisect_left(seen, at, key=lambda usage: usage.at)), len(seen) - 1)
    one, other = seen[later - 1], seen[later]
    share = min(1.0, max(0.0, (at - one.at) / (other.at - one.at)))
    cpu_s = {name: used + share * (other.cpu_s[name] - used) for name, used in one.cpu_s.items()}
    return Usage(at, cpu_s, other.memory_mb)


# Fixed rates ----------------------------------------------------------------------------------------------------------


def share_phase(share: float) -> str:
    """The name of the phase at this share of the monolith's rate."""
    return f"{100 * share:.0f} %"


def measure_rates(runs: int, shrink: float = 1.0) -> Iterator[Row]:
    """The monolith in c64, then both systems at each share of its rate; and once more, in the other order."""
    for number in range(runs):
        base = run(C64, "monolith", None, shrink)
        yield base
        for share in SHARES:
            phase = Phase(share_phase(share), "", rate=share * base.per_s, seconds=RATE_S)
            for system in ("saga", "monolith")[:: -1 if number % 2 else 1]:
                yield run(phase, system, None, shrink)


# A steady rate over many subjects -------------------------------------------------------------------------------------


def measure_steady(subjects: int, seconds: float, rate: float = STEADY_RATE) -> Steady:
    """Place `rate` orders a second over a stream that has as many subjects.

    Raises LoadFailed, WentWrong, StartFailed.
    """
    wares = Wares(int(rate * seconds) + WARM_UP, prefix="steady-", coupons=False)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with history.made(folder, int(subjects * FACTS_A_SUBJECT)) as (env, _):
            subjects = history.subjects(env)
        with Saga(folder, keeper=False) as saga:
            growth.until_quiet(saga.pids.values())  # its read models are complete now, as in any system that runs on
            done, seen = _recorded(saga, wares, rate)
    p50, p99, p999, slowest = percentiles(done.latencies)
    return Steady(
        subjects=subjects,
        rate=rate,
        seconds=done.seconds,
        orders=len(done.at),
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=slowest,
        refused=len(done.refused),
        memory_mb=seen[-1].memory_mb,
    )


# Rolled over and archived under load ----------------------------------------------------------------------------------


def measure_rolled(orders: int, rolls: int = ROLLS) -> Rolled:
    """Place as many orders for each of these roll-overs, on a system that starts empty.

    While a block's orders are placed, what the blocks before have sealed is archived, and the stream rolls over: two
    generations are in the broker then. Raises LoadFailed, WentWrong, StartFailed.
    """
    wares = Wares(rolls * orders + WARM_UP, users=USERS, coupons=False)
    with tempfile.TemporaryDirectory(prefix="bench-") as name, Saga(Path(name), settings=BY_HAND) as saga:

        def job(do: Literal["open", "place", "check"], **more: object) -> Job:
            return Job(do, saga.urls, wares, clients=C64.clients, **more)  # type: ignore[arg-type]

        load.run(job("open"))
        load.run(job("place", last=WARM_UP))
        rolled, refused = Rolled([]), set[int]()
        for number in range(rolls):
            first = WARM_UP + number * orders
            with ThreadPoolExecutor(1) as beside:
                rolling = beside.submit(archive_and_roll, saga, number)
                done = load.run(job("place", first=first, last=first + orders, may_refuse=True))
                rolling.result()
            growth.until_quiet(saga.pids.values())
            refused.update(done.refused)
            rolled.blocks.append(_block(done, number, measure.usage(saga.pids)().memory_mb["nats"]))
        saga.prove()
        confirmed = [number for number in range(wares.orders) if number not in refused] if refused else None
        load.run(job("check", confirmed=confirmed))
    return rolled


def archive_and_roll(saga: Saga, sealed: int) -> None:
    """Archive what is sealed: as many generations; then make the next one."""
    until = time.monotonic() + ARCHIVE_S
    for stream in map(stream_name, range(sealed)):
        while not (saga.archived / file_name(stream)).exists():
            if time.monotonic() > until:
                raise WentWrong(f"{stream} was not archived within {ARCHIVE_S:.0f} s")
            saga.orders("archive", may_end_with=[EXIT_FINDING])  # it may be too early
    saga.orders("stream", "roll")


def _block(done: Done, archived: int, broker_mb: float) -> Block:
    _, p99, _, slowest = percentiles(done.latencies)
    orders = len(done.at)
    return Block(orders, orders / done.seconds, p99, slowest, len(done.refused), archived, broker_mb)
