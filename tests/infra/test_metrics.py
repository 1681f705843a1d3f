"""Instruments count, and give Prometheus what it expects."""

from itertools import count

from structlog.testing import capture_logs

from infra.http.operators.metrics import MetricsCollector
from infra.metrics import Metrics
from tests.metrics import exposed, value


def test_a_histogram_counts_each_value_up_to_its_first_bound_that_is_not_below() -> None:
    metrics = Metrics()
    histogram = metrics.histogram("waits_seconds", "Waits.", (0.1, 1, 5))
    for seconds in (0.0, 0.1, 0.5, 1.0, 5.0, 60.0):
        histogram.observe(seconds)

    text = exposed(metrics)

    counted = {le: value(text, "waits_seconds_bucket", le=le) for le in ("0.1", "1.0", "5.0", "+Inf")}
    assert counted == {"0.1": 2, "1.0": 4, "5.0": 5, "+Inf": 6}
    assert value(text, "waits_seconds_count") == 6
    assert value(text, "waits_seconds_sum") == 66.6


def test_every_child_is_exported_before_anything_is_counted() -> None:
    metrics = Metrics()
    ends = metrics.counters_by("ends_total", "Ends.", ("end",), [("good",), ("bad",)])
    ends["bad",].value += 2

    text = exposed(metrics)

    assert (value(text, "ends_total", end="good"), value(text, "ends_total", end="bad")) == (0, 2)
    assert "_created" not in text


def test_counts_that_others_keep_are_counters() -> None:
    metrics = Metrics()
    metrics.counters_of("sessions_total", "Sessions.", ("outcome",), lambda: {("lost",): 3})

    assert "# TYPE sessions_total counter" in exposed(metrics)


def test_a_reading_that_fails_costs_its_own_series_alone() -> None:
    metrics = Metrics()
    metrics.gauge("broken", "A bug.", lambda: 1 / 0)
    metrics.gauge("queue_length", "Queue.", lambda: 3)

    with capture_logs() as logged:
        text = exposed(metrics)

    assert value(text, "queue_length") == 3
    assert "\nbroken " not in text
    assert [one["metric"] for one in logged] == ["broken"]


def test_gauges_are_read_once_a_second_and_counters_at_each_scrape() -> None:
    metrics = Metrics()
    reads = count(1)
    metrics.gauge("queue_length", "Queue.", lambda: next(reads))
    counter = metrics.counter("seen_total", "Seen.")
    now = 0.0
    collector = MetricsCollector(metrics, lambda: now)

    def scrape() -> dict[str, float]:
        return {sample.name: sample.value for family in collector.collect() for sample in family.samples}

    assert scrape() == {"seen_total": 0, "queue_length": 1}
    counter.value += 1
    now = 0.9
    assert scrape() == {"seen_total": 1, "queue_length": 1}
    now = 1.0
    assert scrape() == {"seen_total": 1, "queue_length": 2}
