"""Gauges of the stream: its newest generation, those that are not sealed, and whether a roll-over is overdue."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from nats.js.api import StreamConfig, StreamInfo, StreamState

from infra.broker.generations import Generations
from infra.metrics import Metrics
from infra.process.stream_gauges import export_stream
from infra.settings import Settings
from tests.infra.purse import NOON
from tests.metrics import exposed, samples, value


def generation(name: str, size: int = 0, *, sealed: bool = False) -> StreamInfo:
    state = StreamState(messages=0, bytes=size, first_seq=1, last_seq=0, consumer_count=0)
    config = StreamConfig(name=name, sealed=sealed, max_bytes=100)
    return StreamInfo(config=config, state=state, created=NOON - timedelta(hours=2))


def scraped(infos: list[StreamInfo] | None, overdue: str | None = None, **settings: Any) -> str:
    none: Any = None
    known = Settings(port=1, **settings)
    generations = None if infos is None else Generations(none, known, infos)
    broker = SimpleNamespace(generations=generations, overdue=overdue)
    runtime: Any = SimpleNamespace(metrics=Metrics(), broker=broker, settings=known, clock=lambda: NOON)
    export_stream(runtime)
    return exposed(runtime.metrics)


def test_the_newest_generation_is_measured_and_those_before_are_counted_until_they_are_sealed() -> None:
    older = [generation("EVENTS", 90, sealed=True), generation("EVENTS_1", 80)]

    text = scraped([*older, generation("EVENTS_2", 7)])

    assert value(text, "saga_stream_bytes", stream="EVENTS") == 7
    assert value(text, "saga_stream_limit_bytes", stream="EVENTS") == 100
    assert value(text, "saga_stream_generation", stream="EVENTS") == 2
    assert value(text, "saga_stream_unsealed_generations", stream="EVENTS") == 1
    assert value(text, "saga_stream_overdue", stream="EVENTS") == 0


def test_a_roll_over_that_is_overdue_shows() -> None:
    text = scraped([generation("EVENTS", 90)], "EVENTS has 600,000 messages")

    assert value(text, "saga_stream_overdue") == 1
    assert value(text, "saga_stream_generation") == value(text, "saga_stream_unsealed_generations") == 0


def test_what_the_stream_takes_and_leaves_of_the_brokers_room() -> None:
    both = [generation("EVENTS", 7_200, sealed=True), generation("EVENTS_1", 3_600)]

    text = scraped(both, broker_max_bytes=100_000)

    assert value(text, "saga_broker_free_bytes", stream="EVENTS") == 100_000 - 10_800
    assert value(text, "saga_stream_growth_bytes_per_second", stream="EVENTS") == 1.5
    assert not [
        one for one in samples(scraped(both, nats_url="nats://other:4222")) if one.name.startswith("saga_broker")
    ]


def test_before_the_first_session_nothing_is_said_of_the_stream() -> None:
    assert [one for one in samples(scraped(None)) if one.name.startswith("saga_stream")] == []
