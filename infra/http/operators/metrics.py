"""The route `/metrics`: all instruments of the process, in the format of Prometheus.

A scrape does no I/O. Gauges, and the counters of `Metrics.counters_of`, are read at most once in READ_S seconds,
however many ask. One that cannot be read is left out: the alerts need all others the more.
"""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

import structlog
from litestar import Response, get
from litestar.types import ControllerRouterHandler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from infra.auth.principal import OPS_READ
from infra.http.access import ACCESS
from infra.metrics import Metrics

logger = structlog.get_logger()

READ_S: Final = 1.0
"""For so many seconds the gauges that were read last are given again."""


class MetricsCollector(Collector):
    """Gives the instruments of a process to prometheus_client."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = monotonic) -> None:
        """`clock` returns seconds."""
        self._metrics = metrics
        self._clock = clock
        self._read_at = float("-inf")
        self._last: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        for counters in self._metrics.counters:
            counted = CounterMetricFamily(counters.name, counters.description, labels=counters.labels)
            for labels, counter in counters.children.items():
                counted.add_metric(labels, counter.value)
            yield counted
        for histograms in self._metrics.histograms:
            spread = HistogramMetricFamily(histograms.name, histograms.description, labels=histograms.labels)
            for labels, histogram in list(histograms.children.items()):
                names = [*map(floatToGoString, histogram.bounds), "+Inf"]
                spread.add_metric(labels, list(zip(names, histogram.cumulative, strict=True)), histogram.total)
            yield spread
        now = self._clock()
        if now - self._read_at >= READ_S:
            self._last, self._read_at = list(self._read()), now
        yield from self._last

    def _read(self) -> Iterable[Metric]:
        for readings in self._metrics.readings:
            family = CounterMetricFamily if readings.rising else GaugeMetricFamily
            read = family(readings.name, readings.description, labels=readings.labels)
            try:
                for labels, value in readings.read().items():
                    read.add_metric(labels, value)
            except Exception as error:
                logger.error("a metric cannot be read: this is a bug", metric=readings.name, exc_info=error)
            else:
                yield read


def metrics_route(metrics: Metrics) -> ControllerRouterHandler:
    registry = CollectorRegistry()
    registry.register(MetricsCollector(metrics))

    @get(
        "/metrics",
        tags=["operators"],
        summary="Metrics for Prometheus",
        opt={ACCESS: OPS_READ},
        media_type="text/plain",
        sync_to_thread=False,
    )
    def scrape() -> Response[bytes]:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return scrape
