"""Gauges of the stream: its newest generation, those that are not sealed, and whether a roll-over is overdue."""

from types import SimpleNamespace
from typing import Any

from nats.js.api import StreamConfig, StreamInfo, StreamState

from infra.broker.generations import Generations
from infra.metrics import Metrics
from infra.process.stream_gauges import export_stream
from infra.settings import Settings
from tests.metrics import exposed, samples, value


def generation(name: str, size: int = 0, *, sealed: bool = False) -> StreamInfo:
    state = StreamState(messages=0, bytes=size, first_seq=1, last_seq=0, consumer_count=0)
    return StreamInfo(config=StreamConfig(name=name, sealed=sealed, max_bytes=100), state=state)


def scraped(infos: list[StreamInfo] | None, overdue: str | None = None) -> str:
    none: Any = None
    generations = None if infos is None else Generations(none, Settings(port=1), infos)
    broker = SimpleNamespace(generations=generations, overdue=overdue)
    runtime: Any = SimpleNamespace(metrics=Metrics(), broker=broker)
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


def test_before_the_first_session_nothing_is_said_of_the_stream() -> None:
    assert [one for one in samples(scraped(None)) if one.name.startswith("saga_stream")] == []
