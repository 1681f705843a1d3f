"""Judges what was seen of all services: one sentence, and what needs attention, causes before their effects.

What a service says of itself is told in its own words, those of its `/readyz`. The limits are those of the alerts and
objectives (docs/monitoring/alerts.yml, docs/runbook.md).
"""

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Final, NamedTuple

from infra.counts import count_of
from infra.process.measures import CLOCK
from ops.status import counts
from ops.status.concern import Concern, duration
from ops.status.counts import COMPENSATED_LATE_S, LATE_S
from ops.status.figures import Figures
from ops.status.seen import Look, SeenService
from ops.status.steps import about_not_ready, about_warning

PUBLISHED_LATE_S: Final = 5.0
HEARD_LATE_S: Final = 10.0
NEARLY_FULL: Final = 0.8
"""The share of a generation's limit from which on somebody has to act."""

AUDIT_OLD_S: Final = 25 * 3_600.0
DAY_S: Final = 86_400.0
HALF_FULL: Final = 0.5
"""The share of the limit at which a generation rolls over."""


class Health(NamedTuple):
    """`sentence` says how the system is, in brief; `concerns` has what needs attention, empty if all is well."""

    sentence: str
    concerns: tuple[Concern, ...]

    @property
    def well(self) -> bool:
        return not self.concerns


def judge(before: Look, now: Look, seen: Figures) -> Health:
    """Return the health at the second of two looks, whose figures are `seen`."""
    services = now.services
    causes = [
        *_away(now),
        *_unmeasured(services),
        *_without_broker(now),
        *_not_ready(services),
        *_clocks(before, now),
        *_warned(services),
        *_lagging(services),
        *_stream(seen),
        *_disks(seen),
        *counts.causes(before, now),
    ]
    effects = [*_late(services, seen), *counts.results(before, now, seen)]
    concerns = _once([*causes, *effects, *_audit(now)])
    if not concerns:
        return Health(f"All is well: {_pace(seen)}, {_waits(seen)}.", ())
    first = concerns[0].summary
    if causes and effects:
        first = f"{first}; meanwhile {effects[0].summary}"
    more = len(concerns) - (2 if causes and effects else 1)
    return Health(f"{first}{f'; and {more} more' if more else ''}.", concerns)


def _once(concerns: Iterable[Concern]) -> tuple[Concern, ...]:
    """Return the concerns, but of those with the same `what` only the first: services may warn of one trouble."""
    found: dict[str, Concern] = {}
    for one in concerns:
        found.setdefault(one.what, one)
    return tuple(found.values())


def _pace(seen: Figures) -> str:
    if not seen.known:
        return "how many orders come is not known yet"
    ended = "" if seen.end_p99_s is None else f", 99 % end within {duration(seen.end_p99_s)}"
    return f"{seen.accepted:,.1f} orders/s{ended}"


def _waits(seen: Figures) -> str:
    return f"{seen.pending} in flight" if seen.pending else "nothing waits"


def _away(now: Look) -> Iterator[Concern]:
    """Yield a concern for each service that does not answer.

    If `just up` runs, a service is started by `just roll`: it makes that `just up` start the service again. No other
    command can start a service there. A process that still works on the service's folder has to go on or end first.
    """
    rolls = ", as the running `just up` does at `just roll`" if now.machine.up else ""
    for seen in now.services:
        if not seen.trouble:
            continue
        start = "just roll" if now.machine.up else f"just service {seen.service.name}"
        pid = now.machine.processes.get(seen.service.name)
        if pid is None:
            yield Concern(seen.trouble, f"start {seen.name} again{rolls}; its log says why it ended", (start,))
        else:
            yield Concern(
                seen.trouble,
                f"process {pid} is there and does not answer: let it go on if it was stopped (kill -CONT), else end it "
                f"(kill -TERM, and kill -KILL if it stays) and start {seen.name} again{rolls}",
                (f"kill -CONT {pid}", f"kill -TERM {pid}", start),
            )


def _unmeasured(services: Iterable[SeenService]) -> Iterator[Concern]:
    for seen in services:
        if seen.unmeasured:
            yield Concern(
                seen.unmeasured,
                f"what {seen.name} does is not known, and what is said of it here may lack the worst; its log says why",
                (f"curl -s {seen.service.url}/metrics",),
            )


def _without_broker(now: Look) -> Iterator[Concern]:
    found = [seen for seen in now.services if _lacks_broker(seen)]
    if not found:
        return
    names = "all services" if len(found) == len(now.services) else ", ".join(seen.name for seen in found)
    step, commands = "start the broker; if it runs, mend what is said here", ["just nats-cli-stream"]
    if now.machine.broker is not None:
        step = f"the broker runs ({now.machine.broker}): mend what is said here"
    elif now.machine.bundled:
        step, commands = "start the bundled broker, also beside `just up`, in another terminal", ["just nats"]
    yield Concern(
        f"{names}: {found[0].not_ready}",
        f"{step}. Nothing is lost: docs/runbook.md#sagabrokergone",
        tuple(commands),
    )


def _lacks_broker(seen: SeenService) -> bool:
    """Whether the service is not ready because it has no session with the broker.

    A session that ended by the service's own store, or by facts that its log has lost, does not count.
    """
    missing = {one.labels.get("reason") for one in seen.samples.of("saga_ready") if one.value == 0}
    return bool(seen.not_ready) and "broker" in missing and "log_lost" not in missing


def _not_ready(services: Iterable[SeenService]) -> Iterator[Concern]:
    for seen in services:
        if seen.not_ready and not _lacks_broker(seen):
            yield about_not_ready(seen)


def _late(services: Iterable[SeenService], seen: Figures) -> Iterator[Concern]:
    url = next((one.service.url for one in services if one.service.name == "order"), "")
    if seen.oldest_pending_s > LATE_S:
        yield Concern(
            f"{_orders(seen.pending)} in flight, the oldest for {duration(seen.oldest_pending_s)}",
            "mend what they wait for; docs/operating.md#orders-that-wait",
            (f"curl -s '{url}/ops/orders?status=PENDING&limit=5'", "just trace ORDER_ID"),
        )
    if seen.oldest_uncompensated_s > COMPENSATED_LATE_S:
        yield Concern(
            f"{_orders(seen.uncompensated)} canceled and not compensated, the oldest for "
            f"{duration(seen.oldest_uncompensated_s)}",
            "a dead letter, or a service that is away, holds them up: docs/runbook.md#sagacompensationstuck",
            (f"curl -s '{url}/ops/orders?compensated=no&limit=5'", "just trace ORDER_ID", "just dlq ls"),
        )


def _orders(count: int) -> str:
    return f"{count} order is" if count == 1 else f"{count:,} orders are"


def _warned(services: Sequence[SeenService]) -> Iterator[Concern]:
    """Yield a concern for each warning of a service, once; but none for warnings of clocks (see `_clocks`).

    Also one for the dead letters of a service that is not ready, which has no warnings. order_svc comes last: it tells
    which service leaves its orders waiting, and not why.
    """
    told: set[str] = set()
    for seen in sorted(services, key=lambda seen: seen.service.name == "order"):
        for text in seen.warnings:
            # A clock is a cause, see `_clocks`. All services may warn of one thing, such as the archive's bucket.
            if text.startswith(CLOCK) or text in told:
                continue
            told.add(text)
            yield about_warning(text, seen, services)
        if seen.not_ready and (letters := int(seen.samples.total("saga_dead_letters"))):
            yield Concern(
                f"{seen.name} has {count_of(letters, 'dead letter')}",
                "docs/runbook.md#sagadeadletters",
                ("just dlq ls",),
            )


def _lagging(services: Iterable[SeenService]) -> Iterator[Concern]:
    for seen in services:
        lag_s = seen.samples.largest("saga_relay_lag_seconds")
        if lag_s > PUBLISHED_LATE_S:
            yield Concern(
                f"{seen.name} has not published a fact for {duration(lag_s)}",
                "docs/runbook.md#sagarelaybehind",
                (f"curl -s {seen.service.url}/readyz",),
            )
        for one in seen.samples.of("saga_consumer_lag_seconds"):
            if one.value > HEARD_LATE_S:
                yield Concern(
                    f"{one.labels.get('consumer', '')} lags by {duration(one.value)}",
                    "docs/runbook.md#sagaconsumerbehind",
                    ("just nats-cli-consumers",),
                )


def _stream(seen: Figures) -> Iterator[Concern]:
    share = seen.stream_bytes / seen.stream_limit_bytes if seen.stream_limit_bytes else 0.0
    if share > NEARLY_FULL:
        yield Concern(
            f"the stream's newest generation is full by {share:.0%}; at 95 % new orders are refused",
            "make the next generation: docs/runbook.md#sagastreamfilling",
            ("just stream roll", "just stream keeper"),
        )
    elif share > HALF_FULL and seen.full_in_s is not None and seen.full_in_s < DAY_S:
        yield Concern(
            f"the stream's newest generation will be full within a day, in {duration(seen.full_in_s)} at this rate",
            "make the next generation: docs/runbook.md#sagastreamfillssoon",
            ("just stream roll", "just stream keeper"),
        )


def _disks(seen: Figures) -> Iterator[Concern]:
    for room in seen.rooms:
        if room.where != "the broker" and room.full_in_s is not None and room.full_in_s < DAY_S:
            yield Concern(
                f"{room.where} will be full within a day, in {duration(room.full_in_s)} at this rate",
                "make room there: docs/runbook.md#sagadiskfillssoon",
                ("df -h ${DATA_DIR:-.data}",),
            )


def _clocks(before: Look, now: Look) -> Iterator[Concern]:
    name = "saga_clock_backward_total"
    earlier = {seen.name: seen.samples.total(name) for seen in before.services if seen.samples.of(name)}
    for seen in now.services:
        told = next((text for text in seen.warnings if text.startswith(CLOCK)), "")
        if told or seen.samples.total(name) > earlier.get(seen.name, inf):
            yield about_warning(told or f"{CLOCK}{seen.name} lags that of others, or was set back", seen, now.services)


def _audit(now: Look) -> Iterator[Concern]:
    if any(one.value == 0 for seen in now.services for one in seen.samples.of("saga_audit_good")):
        yield Concern("the last audit has findings", "docs/runbook.md#sagaauditfailed", ("just audit",))
    age_s = max((seen.samples.largest("saga_audit_age_seconds") for seen in now.services), default=0.0)
    if age_s > AUDIT_OLD_S:
        yield Concern(
            f"the last audit is {duration(age_s)} old",
            "make one each day: docs/runbook.md#sagaauditold",
            ("just audit",),
        )
