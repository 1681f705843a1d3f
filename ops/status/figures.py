"""Makes the figures of a screen from what the services have counted at two moments."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Final, NamedTuple

from ops.status.seen import Look, Samples, SeenService

ENDS: Final = "saga_order_end_duration_seconds_bucket"
COMPENSATIONS: Final = "saga_order_compensation_duration_seconds_bucket"


SPARE: Final = 1.05
"""A new generation needs so much of its limit at the broker (infra/broker/forecast.py)."""


class Room(NamedTuple):
    """How many bytes are free somewhere. `where`: `the broker`, or `the disk of` a service.

    `full_in_s`: in how many seconds a disk is full at the rate of the last hour; of the broker: in how many seconds
    another whole generation does not fit any more, at the rate at which facts come. None: not known, or never.
    """

    where: str
    free_bytes: int
    full_in_s: float | None


class Figures(NamedTuple):
    """Figures of the last `window_s` seconds: orders a second, their times to the end (seconds), and what waits now.

    `known`: whether order_svc told its numbers at both moments; otherwise the rates mean nothing, and what waits may be
    0 because it is not known. `accepted`, `confirmed`, `canceled` and `refused` are rates, a second. A time is None if
    no order ended, or was compensated, in this time. `oldest_…_s`: how long the oldest has waited; 0: none waits.
    `full_in_s`: in how many seconds the stream's newest generation is full at the rate at which facts come; None if
    none come, or it has no limit. `reasons`: reason → rate of canceled orders; `refusals`: cause → rate of refused
    requests for an order; both without rates of 0. `rooms`: what is free, and until when.
    """

    window_s: float
    known: bool
    accepted: float
    confirmed: float
    canceled: float
    refused: float
    end_p50_s: float | None
    end_p99_s: float | None
    pending: int
    oldest_pending_s: float
    uncompensated: int
    oldest_uncompensated_s: float
    dead_letters: int
    stream_generation: int
    stream_bytes: int
    stream_limit_bytes: int
    full_in_s: float | None
    compensated_p50_s: float | None = None
    compensated_p99_s: float | None = None
    reasons: Mapping[str, float] = {}
    refusals: Mapping[str, float] = {}
    rooms: tuple[Room, ...] = ()


class ServiceFigures(NamedTuple):
    """The figures of one service. `state`: `ready`, `not ready` or `away` (it does not answer).

    `known`: whether its figures are known; otherwise they are 0. Lags are in seconds. `pending_messages`: those not
    delivered yet, or not acknowledged. `commit_p99_s`: the 99th percentile, in seconds; None: no commit is known.
    """

    service: str
    state: str
    known: bool
    relay_lag_s: float
    consumer_lag_s: float
    pending_messages: int
    dead_letters: int
    commit_p99_s: float | None


def figures(before: Look, now: Look) -> Figures:
    """Return the figures of the time between two looks. A counter that fell was restarted, and counts from 0."""
    seconds = max(now.at - before.at, 1e-3)
    earlier = {seen.service.name: seen.samples for seen in before.services}
    order = _samples(now)
    old = earlier.get("order", Samples())

    def rate(name: str, **labels: str) -> float:
        return round(risen(old.total(name, **labels), order.total(name, **labels)) / seconds, 2)

    def by(name: str, label: str, **labels: str) -> dict[str, float]:
        values = dict.fromkeys(one.labels.get(label, "") for one in order.having(name, labels))
        found = {value: rate(name, **labels, **{label: value}) for value in values}
        return {value: its_rate for value, its_rate in found.items() if its_rate}

    ends, back = _lately(old, order, ENDS), _lately(old, order, COMPENSATIONS)
    size, limit = order.total("saga_stream_bytes"), order.total("saga_stream_limit_bytes")
    grows = order.total("saga_stream_growth_bytes_per_second")
    return Figures(
        round(seconds, 1),
        all(one.of("saga_orders_accepted_total") for one in (old, order)),
        rate("saga_orders_accepted_total"),
        rate("saga_orders_ended_total", end="confirmed"),
        rate("saga_orders_ended_total", end="canceled"),
        rate("saga_orders_refused_total"),
        quantile(ends, 0.5),
        quantile(ends, 0.99),
        int(order.total("saga_orders_pending")),
        order.largest("saga_oldest_pending_order_age_seconds"),
        int(order.total("saga_orders_uncompensated")),
        order.largest("saga_oldest_uncompensated_order_age_seconds"),
        int(sum(seen.samples.total("saga_dead_letters") for seen in now.services)),
        int(order.largest("saga_stream_generation")),
        int(size),
        int(limit),
        round((limit - size) / grows) if grows and limit else None,
        quantile(back, 0.5),
        quantile(back, 0.99),
        by("saga_orders_ended_total", "reason", end="canceled"),
        by("saga_orders_refused_total", "cause"),
        tuple(_rooms(now, limit, grows)),
    )


def _rooms(now: Look, limit: float, grows: float) -> Iterator[Room]:
    """Yield the rooms that the services tell. The broker's is used up when less is left than a new generation needs.

    `limit`: a generation's, in bytes; `grows`: how many bytes the stream grows a second.
    """
    for seen in now.services:
        for one in seen.samples.of("saga_broker_free_bytes"):
            yield Room("the broker", int(one.value), max(0.0, one.value - SPARE * limit) / grows if grows else None)
        for one in seen.samples.of("saga_data_free_bytes"):
            fills = seen.samples.total("saga_data_fill_bytes_per_second")
            yield Room(f"the disk of {seen.name}", int(one.value), one.value / fills if fills else None)


def service_figures(before: Look, now: Look) -> list[ServiceFigures]:
    earlier = {seen.service.name: seen.samples for seen in before.services}
    return [_of(seen, earlier.get(seen.service.name, Samples())) for seen in now.services]


def _of(seen: SeenService, old: Samples) -> ServiceFigures:
    samples = seen.samples
    return ServiceFigures(
        seen.name,
        "away" if seen.trouble else "not ready" if seen.not_ready else "ready",
        seen.measured,
        samples.largest("saga_relay_lag_seconds"),
        samples.largest("saga_consumer_lag_seconds"),
        int(samples.total("saga_consumer_pending_messages") + samples.total("saga_consumer_ack_pending_messages")),
        int(samples.total("saga_dead_letters")),
        quantile(_lately(old, samples, "saga_commit_duration_seconds_bucket"), 0.99),
    )


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """Return the value that this share (0 to 1) of all values does not exceed; None without values.

    `buckets`: pairs of a bound and how many values are at most as large, by rising bounds. Within a bucket values count
    as spread evenly; values above the last finite bound count as that bound.
    """
    if not buckets or buckets[-1][1] <= 0:
        return None
    wanted, low, below = share * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            if bound == inf:
                return low
            return low + (bound - low) * (wanted - below) / (count - below) if count > below else bound
        low, below = bound, count
    return low


def _lately(old: Samples, new: Samples, name: str) -> list[tuple[float, float]]:
    """Return what `buckets_since` does, of all series; [] if `old` has none, because its service missed that look."""
    return buckets_since(old, new, name) if old.of(name) else []


def buckets_since(old: Samples, new: Samples, name: str, **labels: str) -> list[tuple[float, float]]:
    """Return, by rising bounds, pairs of a bound and how many values at most as large came since `old`.

    All series of this histogram with these labels are added up. `name` ends in `_bucket`. Since the service's start, if
    `old` has no samples of it, or the service was restarted after `old`.
    """
    counts = _by_bound(new, name, labels)
    earlier = dict(_by_bound(old, name, labels))
    if any(count < earlier.get(bound, 0.0) for bound, count in counts):
        return counts  # the service was started anew
    return [(bound, count - earlier.get(bound, 0.0)) for bound, count in counts]


def _by_bound(samples: Samples, name: str, labels: Mapping[str, str]) -> list[tuple[float, float]]:
    found: dict[float, float] = {}
    for one in samples.having(name, labels):
        bound = float(one.labels["le"])
        found[bound] = found.get(bound, 0.0) + one.value
    return sorted(found.items())


def risen(old: float, new: float) -> float:
    return new - old if new >= old else new


def _samples(look: Look) -> Samples:
    return next(iter(_of_order(look.services)), Samples())


def _of_order(services: Iterable[SeenService]) -> list[Samples]:
    return [seen.samples for seen in services if seen.service.name == "order"]
