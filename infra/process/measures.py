"""The metrics that every service has of its writer: of its commits, its facts, its deliveries.

What a fact means is the service's own to say: its metrics are made beside these (`Runtime.metrics`).
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from math import inf
from time import monotonic
from typing import Final

from contracts.command import Reaction
from contracts.fact import Fact, SagaFact
from contracts.wire import FACTS
from infra.broker.consumers import consumer_name, consumer_names
from infra.broker.permissions import facts_said_by
from infra.core.messages import Delivery
from infra.core.unit_of_work import Commands, Delivered, Outcome
from infra.core.writer import Reactions
from infra.metrics import SECONDS, Histogram, Metrics
from infra.store.event_store import EventStore
from infra.store.measured import MeasuredStore
from infra.timestamps import microseconds

COMMIT_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
SKEW_S: Final = 0.1
"""The clocks of machines that keep the time differ by some milliseconds, at most by this."""
CLOCK: Final = "the clock of "
"""Begins the warning about a clock."""
CLOCK_LATE_S: Final = 1.0
"""By how much a clock has to lag to be warned of: clocks that are set by NTP differ by less."""
CLOCK_WARNED_S: Final = 60.0
"""How long the warning stays if no further effect is before its cause."""
BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)


class Measures:
    """Counts and times what a service's writer does. The costs are per batch, or below a microsecond a delivery."""

    def __init__(
        self,
        service: str,
        hears: Collection[str],
        reactions: Reactions,
        clock: Callable[[], datetime],
        metrics: Metrics,
        *,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        """`hears` are the names of the facts that the service consumes. `monotonic`: seconds that only rise."""
        self._service = service
        self._clock = clock
        self._monotonic = monotonic
        self._lagged_s, self._lagged_at = 0.0, -inf
        self._metrics = metrics
        says = facts_said_by(service)
        facts = metrics.counters_by(
            "saga_facts_recorded_total", "Facts that the service recorded.", ("fact",), [(name,) for name in says]
        )
        self._facts = {FACTS[name]: counter for (name,), counter in facts.items()}
        steps = metrics.histograms_by(
            "saga_step_duration_seconds",
            "Seconds from the decision of a fact to the decision of the fact that answers it.",
            SECONDS,
            ("fact",),
            [(name,) for name in says if FACTS[name] in _answers(reactions)],
        )
        self._steps = {FACTS[name]: histogram for (name,), histogram in steps.items()}
        heard = metrics.histograms_by(
            "saga_hear_delay_seconds",
            "Seconds from the storing of a message in the stream to the record of what follows from it.",
            SECONDS,
            ("consumer",),
            [(name,) for name in consumer_names(service, hears)],
        )
        self._heard = {name: histogram for (name,), histogram in heard.items()}
        self._heard_by_others = Histogram(SECONDS)
        self._sizes = metrics.histogram(
            "saga_commit_batch_size", "Commands that were decided and recorded together.", BATCH_SIZES
        )
        self._backward = metrics.counter(
            "saga_clock_backward_total",
            "Effects whose time was 100 ms and more before that of their cause: a clock is wrong, or was set back.",
        )

    def measured(self, store: EventStore) -> MeasuredStore:
        """Return the store for the writer: its appends are timed, and its conflicts counted. Call it once."""
        commits = self._metrics.histogram(
            "saga_commit_duration_seconds", "Seconds of an append to the log, with its fsync.", COMMIT_SECONDS
        )
        conflicts = self._metrics.counter(
            "saga_commit_conflicts_total", "Appends that were refused, because a stream had other facts than assumed."
        )
        return MeasuredStore(store, commits, conflicts)

    def recorded(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            counter = self._facts.get(type(fact))
            if counter is not None:
                counter.value += 1

    def settled(self, work: Commands, outcomes: Sequence[Outcome]) -> None:
        """Measure a batch that is recorded: its size, the delay of its deliveries, and the durations of their steps.

        `work`: its commands, each with its source; `outcomes`: one for each of these. Requests, commands that failed,
        and redriven dead letters count in the size only. A batch without commands is not measured.
        """
        if not work:  # the batch has no command
            return
        self._sizes.observe(len(work))
        now_us = microseconds(self._clock())
        last, heard = None, self._heard_by_others
        for (command, source), outcome in zip(work, outcomes, strict=True):
            delivery = source.delivery
            if delivery is None or isinstance(outcome, Exception):
                continue
            if type(source) is not Delivered:
                if not delivery.number:  # a dead letter's wait is not the service's speed
                    continue
                last, heard = None, self._heard_as(delivery)
            elif source.acknowledger is not last:  # mostly it is: a consumer's deliveries come together
                last = source.acknowledger
                heard = self._heard.get(last.durable, self._heard_by_others)
            delay_s = (now_us - delivery.position.stored_us) / 1e6
            heard.observe(delay_s if delay_s >= 0 else self._set_back(delay_s))
            for fact in outcome:
                step = self._steps.get(type(fact))
                if step is not None:
                    took_s = (fact.at - command.fact.at).total_seconds()  # type: ignore[attr-defined]  # of a Reaction
                    step.observe(took_s if took_s >= 0 else self._set_back(took_s))

    def _heard_as(self, delivery: Delivery) -> Histogram:
        """Return the delay's histogram for a message that is tried again, or has waited for another one of its key."""
        return self._heard.get(consumer_name(self._service, delivery.subject.rpartition(".")[0]), self._heard_by_others)

    def warnings(self) -> list[str]:
        """Return the warning for `/readyz` that this service's clock lags that of others.

        Empty unless an effect 1 s or more before its cause was seen in the last CLOCK_WARNED_S (60 s).
        """
        if self._lagged_s < CLOCK_LATE_S or self._monotonic() - self._lagged_at > CLOCK_WARNED_S:
            return []
        return [
            f"{CLOCK}{self._service}_svc lags that of others by {self._lagged_s:,.0f} s, or was set back; "
            "compare `date -u` on all machines"
        ]

    def _set_back(self, negative_s: float) -> float:
        """Count a negative duration, unless it is within SKEW_S; return 0 s, to be measured in its place.

        One of CLOCK_LATE_S or more makes `warnings` warn.
        """
        if negative_s < -SKEW_S:
            self._backward.value += 1
        if negative_s <= -CLOCK_LATE_S:
            now = self._monotonic()
            before_s = self._lagged_s if now - self._lagged_at <= CLOCK_WARNED_S else 0.0
            self._lagged_s, self._lagged_at = max(before_s, -negative_s), now  # a late effect shows less than it is
        return 0.0


def _answers(reactions: Reactions) -> frozenset[type[Fact]]:
    """Return the types of the saga's facts that the service's reactions may record."""
    kinds = [kind for kind in reactions.values() if isinstance(kind, type) and issubclass(kind, Reaction)]
    return frozenset(fact for kind in kinds for fact in kind.says if issubclass(fact, SagaFact))
