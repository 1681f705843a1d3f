"""The live map: every fact that is heard, from the reaction tables, with its rate and how its hearers keep up. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from contracts.spans import ACCEPTED, CANCELED
from contracts.step import fact_name
from contracts.wire import FACTS, SERVICES, STEPS, said_by
from infra.broker.consumers import consumer_name
from ops.dashboard.lifelines import Drawing, FactRow, Hearer, draw
from ops.dashboard.order import FlowTables, kind
from ops.dashboard.poller import RECORDED, Snapshot
from ops.status.concern import duration
from ops.status.figures import buckets_since, quantile, risen
from ops.status.seen import Samples, SeenService

LATE_S: Final = 1.0
"""A hearer that lags by more is shown as late."""
IDLE_S: Final = 300.0
"""A fact is shown as idle if no look has found one for longer, or none has yet."""
WIDE: Final = (1.0, 10.0, 100.0)
"""Facts a second from which on an arrow is wider."""
LINKS: Final = {
    **dict.fromkeys(map(fact_name, filter(None, (step.refused for step in STEPS.awaited))), "/orders?status=CANCELED"),
    CANCELED: "/orders?status=CANCELED",
    ACCEPTED: "/orders?status=PENDING",
}
"""The lists to which facts lead: orders that wait, and orders that were canceled."""


class MapHearer(NamedTuple):
    """How one service keeps up with one fact. `lag_s`: how many seconds it is behind now.

    `p50_s`: the median time in seconds from a message's storing to the record of what follows, between both looks of
    the snapshot; since the service's start, if only the second look has its numbers. None: no message came in that
    time. `known`: whether the service told its numbers at the second look; otherwise they mean nothing.
    """

    service: str
    p50_s: float | None
    lag_s: float
    known: bool

    @property
    def late(self) -> bool:
        return self.lag_s > LATE_S


class MapRow(NamedTuple):
    """A fact, the `service` that says it, how many it says a second (None: not known), and who hears it.

    `idle`: no look has found that one was said within IDLE_S (300 s).
    """

    fact: str
    service: str
    rate: float | None
    idle: bool
    hearers: Sequence[MapHearer]


class FlowMap(NamedTuple):
    """The map, as rows and as a picture."""

    rows: Sequence[MapRow]
    drawing: Drawing


def flow_map(seen: Snapshot, tables: FlowTables) -> FlowMap:
    """Return the map at this snapshot: the facts that a service hears, in the order of FACTS."""
    now = _Service.all(seen)
    rows = [_row(fact, hearers, now, seen) for fact in FACTS if (hearers := tables.hearers(fact))]
    return FlowMap(rows, draw([_drawn(row) for row in rows], SERVICES))


class _Service(NamedTuple):
    """A service's numbers at both looks of a snapshot. `known`: it has told the second, `counted`: both."""

    known: bool = False
    counted: bool = False
    before: Samples = Samples()
    now: Samples = Samples()

    def rate(self, fact: str, seconds: float) -> float | None:
        """Return how many of these facts the service says a second; None unless both looks have its numbers.

        `seconds`: the time between the looks.
        """
        if not self.counted:
            return None
        return risen(self.before.total(RECORDED, fact=fact), self.now.total(RECORDED, fact=fact)) / seconds

    @staticmethod
    def all(seen: Snapshot) -> "dict[str, _Service]":
        before = {one.service.name: one for one in seen.before.services if one.measured}
        return {
            name: _Service(one.measured, one.measured and name in before, _samples(before.get(name)), one.samples)
            for one in seen.look.services
            for name in [one.service.name]
        }


def _samples(one: SeenService | None) -> Samples:
    return Samples() if one is None else one.samples


def _row(fact: str, hearers: Sequence[str], services: "dict[str, _Service]", seen: Snapshot) -> MapRow:
    sayer = services.get(said_by(fact), _Service())
    rate = sayer.rate(fact, seen.figures.window_s) if seen.figures.window_s > 0.01 else None
    idle = seen.look.at - seen.active.get(fact, float("-inf")) > IDLE_S
    return MapRow(fact, said_by(fact), rate, idle, list(_hearers(fact, hearers, services)))


def _hearers(fact: str, hearers: Sequence[str], services: "dict[str, _Service]") -> Iterator[MapHearer]:
    for name in hearers:
        service = services.get(name, _Service())
        consumer = consumer_name(name, fact)
        buckets = buckets_since(service.before, service.now, "saga_hear_delay_seconds_bucket", consumer=consumer)
        lag_s = service.now.largest("saga_consumer_lag_seconds", consumer=consumer)
        yield MapHearer(name, quantile(buckets, 0.5), lag_s, service.known)


def _drawn(row: MapRow) -> FactRow:
    rate = "?" if row.rate is None else f"{row.rate:,.1f}/s" if row.rate else "idle" if row.idle else "0/s"
    wide = f"wide{sum((row.rate or 0.0) >= least for least in WIDE)}"
    idle = "idle" if row.idle else ""
    arrows = [Hearer(one.service, f"{idle} {wide} {_kind(one)}".strip(), _note(one)) for one in row.hearers]
    return FactRow(row.fact, row.service, arrows, kind(row.fact), rate, LINKS.get(row.fact, ""))


def _kind(one: MapHearer) -> str:
    return "late" if one.late else "" if one.known else "unknown"


def _note(one: MapHearer) -> str:
    if not one.known:
        return "?"
    if one.late:
        return f"{duration(one.lag_s)} late"
    return "" if one.p50_s is None else duration(one.p50_s)
