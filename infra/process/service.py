"""Runs a service as a process: settings, lock, store, writer, broker, HTTP; on SIGTERM or SIGINT an orderly end."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
import uvloop
from litestar.types import ControllerRouterHandler

from contracts.fact import Fact
from contracts.wire import NAMES, must_hear
from infra import signals
from infra.broker.connection import Connect, connect
from infra.consuming.limits import SessionLimits
from infra.consuming.session import Broker
from infra.core.decider import Aggregates, moved_facts
from infra.core.limits import WriterLimits
from infra.core.writer import Clock, Reactions, Writer
from infra.files import PRIVATE_UMASK
from infra.http.operators.dead_letters import Consumer
from infra.http.operators.read_models import AnyView
from infra.http.server import Server
from infra.http.tls import tls_context
from infra.metrics import Metrics
from infra.printable import printable
from infra.process import accepting, archive_watch, newer_facts
from infra.process import logging as logs
from infra.process.app import build
from infra.process.gauges import export_gauges
from infra.process.measures import Measures
from infra.process.runtime import Runtime
from infra.process.startup import CannotStart, listen, lock, open_action_log
from infra.read_models.log_view import LogView
from infra.read_models.stream_view import StreamView
from infra.read_models.tables import Projection
from infra.redaction import secrets_in
from infra.settings import Settings, SettingsError, load
from infra.store.errors import StoreSetupError
from infra.store.event_store import EventStore
from infra.store.sqlite import SQLiteStore
from infra.timestamps import now
from infra.tracing.start import traced
from infra.tuning import prepare_process, tune_garbage_collection
from infra.usage import EXIT_USAGE, take_no_arguments

logger = structlog.get_logger()

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
USAGE: Final = """Run {name}_svc until SIGTERM or Ctrl-C. It takes no arguments; docs/settings.md lists its settings.

Exit codes: 0 stopped in good order, 1 a part of it ended by itself, 2 it cannot start."""

OpenStore = Callable[..., contextlib.AbstractAsyncContextManager[EventStore]]
"""Opens the log in the file at a path, as SQLiteStore.open does with its arguments `service` and `moved`."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """Declares a service: its name, aggregates, reactions, routes, settings and read models. `run` runs it."""

    name: str
    port: int
    aggregates: Aggregates
    reactions: Reactions
    routes: Callable[[Runtime], Sequence[ControllerRouterHandler]]
    settings: type[Settings] = Settings
    caller_header: str = ""  # names the caller to its routes, unless callers need tokens
    views: Sequence[Projection] = ()  # of the service's own log, each into a read model
    stream_views: Callable[[Any], Sequence[Projection]] = lambda _: ()  # from its settings; of other services' facts
    watchers: Sequence[Callable[[Runtime], None]] = ()
    """Each is called once before the start, to add to the runtime's `on_recorded`, `warnings` and `tasks`."""

    def check(self) -> None:
        """Raise TypeError if the service has no reaction to a fact that its part of the saga has to answer."""
        if lacks := must_hear(self.name) - self.reactions.keys():
            raise TypeError(f"{self.name}_svc has no reaction to {', '.join(sorted(NAMES[fact] for fact in lacks))}")

    @property
    def hears(self) -> frozenset[str]:
        return frozenset(NAMES[fact] for fact in self.reactions)


def run(service: Service, *, open_store: OpenStore = SQLiteStore.open, connect: Connect = connect) -> None:
    """Run the service until SIGTERM or SIGINT, then return. Exit 2 if settings, port, folder or a file forbid it.

    If one of its tasks ends before that, the service stops in good order, too, and `run` raises the task's error, or
    RuntimeError. Arguments: see `take_no_arguments`. Raises TypeError as `Service.check` does; what `build` raises.
    """
    service.check()
    take_no_arguments(USAGE.format(name=service.name))
    try:
        settings = load(service.settings, service.name, service.port, os.environ)
        prepare_process()
        os.umask(PRIVATE_UMASK)
        secrets = secrets_in(settings.nats_url.split(","))
        with contextlib.ExitStack() as stack:
            stack.callback(logs.configure(service.name, settings.log_level, settings.log_format, secrets).flush)
            listener = stack.enter_context(listen(settings.bind_host, settings.port))
            stack.enter_context(lock(settings.data_dir / service.name))
            uvloop.run(_serve(service, settings, listener, open_store, connect))
    except (SettingsError, CannotStart, StoreSetupError) as error:
        print(f"{service.name}_svc cannot start: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from None


async def _serve(
    service: Service, settings: Settings, listener: socket.socket, open_store: OpenStore, connect: Connect
) -> None:
    folder = settings.data_dir / service.name
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            open_store(folder / "events.sqlite", service=service.name, moved=moved_facts(service.aggregates))
        )
        views: dict[str, AnyView] = {
            projection.name: await stack.enter_async_context(LogView.open(projection, store, folder))
            for projection in service.views
        }
        for projection in service.stream_views(settings):
            view = StreamView.open(projection, service.name, settings, folder, connect)
            views[projection.name] = await stack.enter_async_context(view)
        runtime = assemble(service, settings, store, views, connect=connect)
        runtime.action_log = open_action_log(folder)
        await newer_facts.watch(runtime, service.name, folder)
        await export_gauges(runtime, folder)
        await _run_until_signal(service, runtime, listener, stack)


def assemble(
    service: Service,
    settings: Settings,
    store: EventStore,
    views: Mapping[str, AnyView],
    *,
    clock: Clock = now,
    connect: Connect = connect,
    chance: Callable[[], float] = random.random,
    writer_limits: WriterLimits = WriterLimits(),  # noqa: B008  # frozen
    session_limits: SessionLimits = SessionLimits(),  # noqa: B008  # frozen
) -> Runtime:
    """Build the parts of a service; nothing runs yet. `chance` draws the jitter of pauses, from 0 to 1."""
    listeners: list[Callable[[Sequence[Fact]], None]] = []

    def recorded(facts: Sequence[Fact]) -> None:
        broker.log_has_grown()
        for view in views.values():
            view.log_has_grown()
        for listener in listeners:
            listener(facts)

    metrics = Metrics()
    measures = Measures(service.name, service.hears, service.reactions, clock, metrics)
    listeners.append(measures.recorded)
    writer = Writer(
        service.aggregates,
        service.reactions,
        measures.measured(store),
        clock,
        recorded,
        limits=writer_limits,
        settled=measures.settled,
    )
    broker = Broker(
        service.name,
        service.hears,
        settings,
        store,
        writer,
        clock=clock,
        connect=connect,
        chance=chance,
        limits=session_limits,
    )
    consuming = {view.listener: view for view in views.values() if isinstance(view, StreamView)}
    consumers: dict[str, Consumer] = {service.name: broker, **consuming}
    return Runtime(
        settings, clock, store, writer, broker, views, consumers, metrics, listeners, warnings=[measures.warnings]
    )


async def _run_until_signal(
    service: Service, runtime: Runtime, listener: socket.socket, stack: contextlib.AsyncExitStack
) -> None:
    for watcher in (archive_watch.watch, *service.watchers):
        watcher(runtime)
    app = build(service.name, service.routes(runtime), runtime, service.caller_header)
    server = Server(app, per_address=runtime.settings.connections_per_address, tls=tls_context(runtime.settings))
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, runtime.closing.set)
    signals.release()
    await stack.enter_async_context(
        traced(
            service.name,
            runtime.settings,
            runtime.clock,
            runtime.metrics,
            writer=runtime.writer,
            dead_letters=runtime.broker.dead_letters,
            server=server,
        )
    )
    tasks = _start(runtime, server, listener)
    tune_garbage_collection()
    logger.info("started", url=runtime.settings.url, pid=os.getpid(), store=runtime.store.place)
    closing: asyncio.Task[Any] = asyncio.create_task(runtime.closing.wait())
    # A task that ends before the process is asked to end is broken.
    done, _ = await asyncio.wait([closing, *tasks], return_when=asyncio.FIRST_COMPLETED)
    broken = None if runtime.closing.is_set() else next(iter(done))
    runtime.closing.set()
    for number in SIGNALS:  # a second signal must not interrupt the orderly end that the first one began
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    await _stop(runtime, server, tasks)
    if broken is not None:
        broken.result()
        raise RuntimeError(f"{broken.get_name()} ended by itself")
    logger.info("stopped")


def _start(runtime: Runtime, server: Server, listener: socket.socket) -> list[asyncio.Task[Any]]:
    """Start the tasks of the process, each with a name, and return them."""
    work = (
        ("writer", runtime.writer.run()),
        ("broker", runtime.broker.run()),
        ("http", accepting.serve(server, listener, runtime)),
        *((f"view {name}", view.run()) for name, view in runtime.views.items()),
        *((task.__qualname__, task()) for task in runtime.tasks),
    )
    return [asyncio.create_task(coroutine, name=name) for name, coroutine in work]


async def _stop(runtime: Runtime, server: Server, tasks: Sequence[asyncio.Task[Any]]) -> None:
    """End HTTP, then the broker's side, then all else: HTTP's last requests record facts that are still to publish."""
    logger.info("stopping")
    by_name = {task.get_name(): task for task in tasks}
    server.should_exit = True
    await asyncio.wait([by_name["http"]])
    runtime.broker.stop()
    await asyncio.wait([by_name["broker"]])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
