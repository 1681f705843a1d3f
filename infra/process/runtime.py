"""The parts of a running service that its routes and tasks use."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.fact import Fact
from infra.consuming.session import Broker
from infra.core.writer import Clock, Writer
from infra.http.durations import RequestDurations
from infra.http.operators.action_log import ActionLog
from infra.http.operators.dead_letters import Consumer
from infra.http.operators.read_models import AnyView
from infra.metrics import Metrics
from infra.store.event_store import EventStore


@dataclass
class Runtime:
    """The parts of a running service that its routes and tasks use."""

    settings: Any
    clock: Clock
    store: EventStore
    writer: Writer
    broker: Broker
    views: Mapping[str, AnyView]
    consumers: Mapping[str, Consumer]
    """By listener: the service itself, under its name, and each of its read models of EVENTS."""
    metrics: Metrics = field(default_factory=Metrics)
    """Every instrument of the process; `/metrics` exports them. A service adds its own before the start."""
    on_recorded: list[Callable[[Sequence[Fact]], None]] = field(default_factory=list)
    """Called after each commit of facts, with these in log order, before the success of its requests is answered."""
    warnings: list[Callable[[], Sequence[str]]] = field(default_factory=list)
    """Each returns sentences that `/readyz` shows as warnings, after those about consumers and the stream."""
    tasks: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    """Started with the service and canceled at its end. A task that ends before `closing` is set stops the process with
    an error."""
    action_log: ActionLog | None = None
    """Where is noted what operators do; None: nowhere."""
    requests: RequestDurations = field(init=False)
    """Counts and times the requests to the service."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process is to end: requests that wait should then be answered at once."""

    def __post_init__(self) -> None:
        self.requests = RequestDurations(self.metrics)
