"""Gauges of consumers: one series for each, over all generations of the stream and over all sessions."""

from types import SimpleNamespace
from typing import Any

import pytest

from infra.broker.consumers import ConsumerPlace
from infra.consuming.dead_letter import ERRORS
from infra.consuming.session_counts import SessionCounts
from infra.metrics import Metrics
from infra.process.consumer_gauges import ConsumerGauges
from infra.timestamps import now
from tests.metrics import exposed, samples, value

HEARS, OTHER = "point-hears-product-reserved", "point-hears-order-canceled"


def consumer(stream: str, name: str, pending: int = 0, lag_s: float = 0.0, redelivered: int = 0) -> Any:
    backlog = SimpleNamespace(pending=pending, unacknowledged=1, lag_s=lag_s, redelivered=redelivered)
    return SimpleNamespace(name=ConsumerPlace(stream, name).key, durable=name, backlog=backlog)


@pytest.fixture
def supervisor() -> Any:
    return SimpleNamespace(consumers=[], denied=[], counts=SessionCounts())


def scraped(supervisor: Any, metrics: Metrics) -> str:
    if not metrics.readings:
        letters = SimpleNamespace(depth=0, oldest=None, added=dict.fromkeys(ERRORS, 0))
        listener: Any = SimpleNamespace(supervisor=supervisor, dead_letters=letters)
        ConsumerGauges({"point": listener}, metrics, now)
    return exposed(metrics)


def test_a_consumer_has_one_series_over_all_generations(supervisor: Any) -> None:
    supervisor.consumers = [
        consumer("EVENTS", HEARS, pending=2, lag_s=7.0, redelivered=1),
        consumer("EVENTS", OTHER),
        consumer("EVENTS_1", HEARS, pending=3, lag_s=4.0, redelivered=2),
        consumer("EVENTS_1", OTHER),
    ]

    text = scraped(supervisor, Metrics())

    assert value(text, "saga_consumer_pending_messages", consumer=HEARS) == 5
    assert value(text, "saga_consumer_ack_pending_messages", consumer=HEARS) == 2
    assert value(text, "saga_consumer_lag_seconds", consumer=HEARS) == 7
    assert value(text, "saga_consumer_redelivered_total", consumer=HEARS) == 3
    named = {label for one in samples(text) for name, label in one.labels if name == "consumer"}
    assert named == {"point", HEARS, OTHER}


def test_without_a_session_a_consumer_has_the_backlog_of_its_last_one(supervisor: Any) -> None:
    metrics = Metrics()
    supervisor.consumers = [consumer("EVENTS", HEARS, pending=2, lag_s=7.0)]
    scraped(supervisor, metrics)
    supervisor.consumers = []

    text = scraped(supervisor, metrics)

    assert value(text, "saga_consumer_pending_messages", consumer=HEARS) == 2
    assert value(text, "saga_consumer_lag_seconds", consumer=HEARS) == 7


def test_a_generation_that_is_gone_takes_no_redelivery_along(supervisor: Any) -> None:
    supervisor.counts.add_redelivered([consumer("EVENTS", HEARS, redelivered=4)])
    supervisor.consumers = [consumer("EVENTS_1", HEARS, redelivered=2)]

    assert value(scraped(supervisor, Metrics()), "saga_consumer_redelivered_total", consumer=HEARS) == 6


def test_what_was_denied_is_counted_over_sessions(supervisor: Any) -> None:
    supervisor.counts.add_denied(["publish to a", "subscribe to b"])
    supervisor.denied = ["publish to a"]

    text = scraped(supervisor, Metrics())

    assert value(text, "saga_permission_denied_total", kind="publish") == 2
    assert value(text, "saga_permission_denied_total", kind="subscribe") == 1
