"""The route `/metrics` for Prometheus: how many dead letters each consumer has, and the age of the oldest."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from litestar import Response, get
from litestar.types import ControllerRouterHandler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from infra.http.operators.dead_letters import Consumer


class _DeadLetters(Collector):
    def __init__(self, consumers: Mapping[str, Consumer], clock: Callable[[], datetime]) -> None:
        self._consumers = consumers
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        depth = GaugeMetricFamily(
            "saga_dead_letters", "Dead letters of the consumer in the stream DEAD.", labels=["consumer"]
        )
        age = GaugeMetricFamily(
            "saga_dead_letter_oldest_age_seconds",
            "Age of the oldest dead letter in seconds; 0 if there is none.",
            labels=["consumer"],
        )
        for name, consumer in self._consumers.items():
            oldest = consumer.dead_letters.oldest
            depth.add_metric([name], consumer.dead_letters.depth)
            age.add_metric([name], 0.0 if oldest is None else max(0.0, (self._clock() - oldest).total_seconds()))
        return [depth, age]


def metrics(consumers: Mapping[str, Consumer], clock: Callable[[], datetime]) -> ControllerRouterHandler:
    registry = CollectorRegistry()
    registry.register(_DeadLetters(consumers, clock))

    @get(
        "/metrics", tags=["operators"], summary="Metrics for Prometheus", media_type="text/plain", sync_to_thread=False
    )
    def scrape() -> Response[bytes]:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return scrape
