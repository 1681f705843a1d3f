"""What is measured of the consumers of a service and of its read models: backlog, sessions, dead letters.

Backlog and redeliveries are by consumer, dead letters by listener; sessions and denials are of all listeners together.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from infra.consuming.backlog import Backlog
from infra.consuming.dead_letter import ERRORS
from infra.core.writer import Clock
from infra.http.operators.dead_letters import Consumer
from infra.metrics import Labels, Metrics


class ConsumerGauges:
    """Exports the gauges of these consumers, and the counts that they keep."""

    def __init__(self, consumers: Mapping[str, Consumer], metrics: Metrics, clock: Clock) -> None:
        self._consumers = consumers
        self._clock = clock
        self._backlogs: dict[str, list[tuple[str, Backlog]]] = {}
        """Listener → those of its consumers, each with the consumer's name, in the last session that a read saw."""
        self._export_backlogs(metrics)
        self._export_sessions(metrics)
        self._export_dead_letters(metrics)

    def _export_backlogs(self, metrics: Metrics) -> None:
        label = ("consumer",)
        metrics.gauges_by(
            "saga_consumer_pending_messages",
            "Messages that the broker has not delivered yet.",
            label,
            lambda: self._backlog(lambda found: sum(one.pending for one in found)),
        )
        metrics.gauges_by(
            "saga_consumer_ack_pending_messages",
            "Messages that were delivered and not acknowledged.",
            label,
            lambda: self._backlog(lambda found: sum(one.unacknowledged for one in found)),
        )
        metrics.gauges_by(
            "saga_consumer_lag_seconds",
            "Age of the oldest message that is not handled; 0 if there is none.",
            label,
            lambda: self._backlog(lambda found: max(one.lag_s for one in found)),
        )
        metrics.counters_of(
            "saga_consumer_redelivered_total",
            "Deliveries of messages that the process had received before.",
            label,
            self._redelivered,
        )

    def _backlog(self, value: Callable[[Sequence[Backlog]], float]) -> Mapping[Labels, float]:
        """Return, by consumer, `value` of its backlogs, one for each generation.

        A listener without a session has the backlogs of its last session; before its first, none.
        """
        found: dict[str, list[Backlog]] = {}
        for listener, consumer in self._consumers.items():
            if present := [(one.durable, one.backlog) for one in consumer.supervisor.consumers]:
                self._backlogs[listener] = present
            for name, backlog in self._backlogs.get(listener, ()):
                found.setdefault(name, []).append(backlog)
        return {(name,): value(backlogs) for name, backlogs in found.items()}

    def _redelivered(self) -> Mapping[Labels, float]:
        supervisors = [consumer.supervisor for consumer in self._consumers.values()]
        return {(name,): count for one in supervisors for name, count in one.counts.redelivered(one.consumers).items()}

    def _export_sessions(self, metrics: Metrics) -> None:
        metrics.counters_of(
            "saga_broker_sessions_total",
            "Sessions of the service and its read models with the broker, by how they ended.",
            ("outcome",),
            self._sessions,
        )
        metrics.counters_of(
            "saga_permission_denied_total",
            "Requests that the broker denied, each once in a session.",
            ("kind",),
            self._denials,
        )

    def _sessions(self) -> Mapping[Labels, float]:
        outcomes = [consumer.supervisor.counts.outcomes for consumer in self._consumers.values()]
        return {(outcome,): sum(one[outcome] for one in outcomes) for outcome in outcomes[0]}

    def _denials(self) -> Mapping[Labels, float]:
        supervisors = [consumer.supervisor for consumer in self._consumers.values()]
        denials = [one.counts.denials(one.denied) for one in supervisors]
        return {(kind,): sum(one[kind] for one in denials) for kind in denials[0]}

    def _export_dead_letters(self, metrics: Metrics) -> None:
        metrics.gauges_by(
            "saga_dead_letters",
            "Dead letters of the consumer in the stream DEAD.",
            ("consumer",),
            lambda: {(name,): one.dead_letters.depth for name, one in self._consumers.items()},
        )
        metrics.gauges_by(
            "saga_dead_letter_oldest_age_seconds",
            "Age of the oldest dead letter in seconds; 0 if there is none.",
            ("consumer",),
            lambda: {(name,): self._seconds_since(one.dead_letters.oldest) for name, one in self._consumers.items()},
        )
        metrics.counters_of(
            "saga_dead_letters_parked_total",
            "Messages that became dead letters, by the error; `waits`: an earlier one of its key is a dead letter.",
            ("consumer", "error"),
            self._added,
        )

    def _seconds_since(self, instant: datetime | None) -> float:
        return 0.0 if instant is None else max(0.0, (self._clock() - instant).total_seconds())

    def _added(self) -> Mapping[Labels, float]:
        return {
            (name, error): one.dead_letters.added[error] for name, one in self._consumers.items() for error in ERRORS
        }
