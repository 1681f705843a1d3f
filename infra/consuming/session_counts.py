"""Counts of one listener that outlive a session: sessions by their ends, denied requests, repeated deliveries."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from infra.consuming.consumer import DurableConsumer


class SessionCounts:
    """Adds up the past sessions of one service or read model; the caller passes in what the present one adds."""

    def __init__(self) -> None:
        self.outcomes = {"ended": 0, "lost": 0, "failed": 0}
        """How many sessions ended so: in good order; by an error that passes; by another one."""
        self._denials = {"publish": 0, "subscribe": 0}
        self._redelivered: Counter[str] = Counter()

    def add_denied(self, denied: Sequence[str]) -> None:
        """Add what a session that is over was denied."""
        self._denials = dict(self.denials(denied))

    def add_redelivered(self, consumers: Iterable[DurableConsumer]) -> None:
        """Add what the consumers of a session that is over received again."""
        self._redelivered = self.redelivered(consumers)

    def denials(self, denied: Sequence[str]) -> Mapping[str, int]:
        """Return how many requests the broker has denied, by `publish` and `subscribe`, each once in a session.

        `denied`: what the broker has denied the present session, as in `BrokerClient.denied`.
        """
        kinds = [one.partition(" ")[0] for one in denied]
        return {kind: count + kinds.count(kind) for kind, count in self._denials.items()}

    def redelivered(self, consumers: Iterable[DurableConsumer]) -> Counter[str]:
        """Return, by the consumer's name at the broker, how many deliveries were of messages received before.

        The generations are added up. `consumers`: those of the present session.
        """
        found = Counter(self._redelivered)
        for consumer in consumers:
            found[consumer.durable] += consumer.backlog.redelivered
        return found
