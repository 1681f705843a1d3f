"""Concerns by what the services have counted between two looks. For each there is an alert, which asks for more.

The shares and limits are those of the alerts and objectives (docs/monitoring). An alert also asks for a burnt budget,
or that the trouble lasts. So a concern may come and go with a few events: it says only what is so now.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from ops.status.concern import Concern, duration
from ops.status.figures import COMPENSATIONS, ENDS, Figures, buckets_since, quantile, risen
from ops.status.seen import Look, Samples, SeenService

LATE_S: Final = 5.0
"""An order that waits longer than this for its end is late."""
COMPENSATED_LATE_S: Final = 10.0
LATE: Final = 0.001
"""The share of late orders, and of failed requests, that the objectives allow."""
REFUSED: Final = 0.01
REFUSALS: Final = ("overload", "draining", "not_ready")
"""Causes of 503: what is refused for other causes is the client's doing."""
REDELIVERED: Final = 0.01
REDELIVERIES: Final = 10
"""So few redeliveries are no concern, whatever their share is."""
COMMIT_LATE_S: Final = 0.25
LATE_COMMITS: Final = 2
"""So many commits have to be late, and more than one in a hundred: a single one says nothing of the disk."""
FALLS_BACK_S: Final = 2.0
REQUESTS: Final = "http_server_request_duration_seconds_count"
REDELIVERED_TOTAL: Final = "saga_consumer_redelivered_total"
HEARD: Final = "saga_hear_delay_seconds_count"
COMMITS: Final = "saga_commit_duration_seconds_bucket"
PENDING: Final = "saga_consumer_pending_messages"

Pair = tuple[SeenService, Samples]
"""A service at the second look, and its numbers at the first."""


def _seen_twice(before: Look, now: Look) -> list[Pair]:
    """Return each service of which both looks have numbers, as seen `now`, with its numbers at the look `before`."""
    earlier = {seen.name: seen.samples for seen in before.services if seen.measured}
    return [(seen, earlier[seen.name]) for seen in now.services if seen.measured and seen.name in earlier]


def causes(before: Look, now: Look) -> Iterator[Concern]:
    """Yield concerns that make orders wait: slow commits, many redeliveries, consumers that fall back."""
    for seen, old in _seen_twice(before, now):
        yield from _slow_commits(seen, old)
        yield from _again(seen, old)
        yield from _falls_back(seen, old)


def results(before: Look, now: Look, figures: Figures) -> Iterator[Concern]:
    """Yield concerns that customers meet: failed and refused requests, orders that end or are compensated late.

    `figures`: those of the two looks.
    """
    both = _seen_twice(before, now)
    yield from _failed(both)
    yield from _refused(both, figures)
    for seen, old in both:
        if (late := _above(seen, old, ENDS, LATE_S)) > LATE:
            yield Concern(
                f"{late:.1%} of the orders do not end within 5 s; 99.9 % should",
                "the slowest service, or too many orders: docs/runbook.md#sagaorderslate",
                (f"curl -s '{seen.service.url}/ops/orders?status=PENDING&limit=5'",),
            )
        if (late := _above(seen, old, COMPENSATIONS, COMPENSATED_LATE_S)) > LATE:
            yield Concern(
                f"{late:.1%} of the canceled orders are not compensated within 10 s; 99.9 % should be",
                "a dead letter, or a service that lags: docs/runbook.md#sagacompensationslate",
                (f"curl -s '{seen.service.url}/ops/orders?compensated=no&limit=5'", "just dlq ls"),
            )


def _above(seen: SeenService, old: Samples, name: str, limit: float) -> float:
    """Return which share (0 to 1) of the histogram's values since `old` is above `limit`; 0 without values.

    `limit` must be one of the histogram's bounds.
    """
    values = buckets_since(old, seen.samples, name)
    return _beyond(values, limit) / values[-1][1] if values and values[-1][1] else 0.0


def _beyond(values: Sequence[tuple[float, float]], limit: float) -> float:
    """Return how many values are above `limit`. `values`: pairs of a bound and how many values are at most as large.

    `limit` must be one of the bounds; `values` must not be empty.
    """
    return values[-1][1] - max((count for bound, count in values if bound <= limit), default=0.0)


def _failed(both: Sequence[Pair]) -> Iterator[Concern]:
    failed = requests = 0.0
    urls = []
    for seen, old in both:
        for one in seen.samples.of(REQUESTS):
            count = risen(old.total(REQUESTS, **one.labels), one.value)
            code = one.labels.get("http_response_status_code", "")
            requests += count
            if count and code.startswith("5") and code != "503":
                failed += count
                urls.append(seen.service.url)
    if requests and failed / requests > LATE:
        yield Concern(
            f"{failed / requests:.1%} of the requests end with 5xx (503 apart); at most 0.1 % should",
            "each is a bug, and the service's log has it: docs/runbook.md#sagarequestsfail",
            tuple(f"curl -s {url}/metrics | grep -E 'count.*code=.5'" for url in dict.fromkeys(urls)),
        )


def _refused(both: Sequence[Pair], figures: Figures) -> Iterator[Concern]:
    refused = sum(figures.refusals.get(cause, 0.0) for cause in REFUSALS)
    url = next((seen.service.url for seen, _ in both if seen.service.name == "order"), "")
    if url and refused > REFUSED * (refused + figures.accepted):
        yield Concern(
            f"{refused / (refused + figures.accepted):.0%} of the orders are refused with 503; at most 1 % should be",
            "its /readyz says why: docs/runbook.md#sagaordersrefused",
            (f"curl -s {url}/readyz", f"curl -s {url}/metrics | grep saga_orders_refused_total"),
        )


def _slow_commits(seen: SeenService, old: Samples) -> Iterator[Concern]:
    values = buckets_since(old, seen.samples, COMMITS)
    late = _beyond(values, COMMIT_LATE_S) if values else 0.0
    if late >= LATE_COMMITS and late > 0.01 * values[-1][1]:
        yield Concern(
            f"{seen.name} waits {duration(quantile(values, 0.99) or COMMIT_LATE_S)} for its disk (99th percentile)",
            "another program that writes there, a full or failing disk: docs/runbook.md#sagacommitslow",
            ("df -h ${DATA_DIR:-.data}",),
        )


def _again(seen: SeenService, old: Samples) -> Iterator[Concern]:
    for one in seen.samples.of(REDELIVERED_TOTAL):
        again = risen(old.total(REDELIVERED_TOTAL, **one.labels), one.value)
        heard = risen(old.total(HEARD, **one.labels), seen.samples.total(HEARD, **one.labels))
        if again >= REDELIVERIES and again > REDELIVERED * heard:
            yield Concern(
                f"{one.labels.get('consumer', '')} gets messages again and again",
                "its sessions end, or it acknowledges too late: docs/runbook.md#sagaredeliveries",
                ("just nats-cli-consumers",),
            )


def _falls_back(seen: SeenService, old: Samples) -> Iterator[Concern]:
    for one in seen.samples.of(PENDING):
        lag_s = seen.samples.largest("saga_consumer_lag_seconds", **one.labels)
        if lag_s > FALLS_BACK_S and one.value > old.total(PENDING, **one.labels):
            yield Concern(
                f"more and more messages wait for {one.labels.get('consumer', '')}: {one.value:,.0f}",
                "it is at its limit: docs/runbook.md#sagaconsumerfallsback",
                ("just nats-cli-consumers",),
            )
