"""`python -m bench.systems.one_process`: the same four domains without a broker, in one process over one SQLite file.

It has the services' own routes, deciders, reactions, read models and deadlines, and their HTTP stack. The consequences
of a fact are decided at once. A batch of requests and all its consequences are recorded in one transaction.

Left out are the parts that need the broker: the stream, and the ranking that is read from it. The settings are those of
order_svc.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final

import uvloop
from litestar import Litestar

from contracts import Fact, coupon_stream
from contracts.wire import fact_id
from coupon_svc.__main__ import SERVICE as COUPON
from infra.core.decider import Batch, Command
from infra.core.limits import WriterLimits
from infra.core.state_cache import StateCache
from infra.core.unit_of_work import Answer
from infra.http.app import build_app
from infra.http.durations import RequestDurations
from infra.http.server import Server
from infra.metrics import Metrics
from infra.process import logging as logs
from infra.read_models.log_view import LogView
from infra.settings import load
from infra.store.errors import Conflict
from infra.store.sqlite import SQLiteStore
from infra.tuning import tune_garbage_collection, use_batch_scheduling
from order_svc.__main__ import SERVICE as ORDER
from order_svc.deadlines import deadlines
from order_svc.domain import Place
from order_svc.settings import OrderSettings
from point_svc.__main__ import SERVICE as POINT
from product_svc.__main__ import SERVICE as PRODUCT

SERVICES: Final = (ORDER, PRODUCT, POINT, COUPON)
AGGREGATES: Final = {name: aggregate for service in SERVICES for name, aggregate in service.aggregates.items()}


class OneWriter:
    """One writer for all four domains."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store
        self._states = StateCache(AGGREGATES, store)
        self._queue: deque[tuple[Command, asyncio.Future[Answer]]] = deque()
        self._arrived = asyncio.Event()
        self.recorded: Callable[[Sequence[Fact]], None] = lambda _: None

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def execute(self, command: Command) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append((command, answer))
        self._arrived.set()
        return await answer

    async def read(self, streams: Sequence[str]) -> list[Any]:
        states = await self._states.get(streams)
        return [states[stream].state for stream in streams]

    async def run(self) -> None:
        max_batch = WriterLimits().max_batch
        while True:
            await self._arrived.wait()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), max_batch))]
            if not self._queue:
                self._arrived.clear()
            commands = [command for command, _ in batch]
            try:
                decided, outcomes = await self._record(commands, assuming=True)
            except Conflict:
                decided, outcomes = await self._record(commands, assuming=False)
            self._states.publish(decided.forks)
            self.recorded(decided.facts)
            for (command, answer), outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    answer.set_exception(outcome)
                else:
                    answer.set_result(Answer(outcome, decided.states(command.streams)))

    async def _record(
        self, commands: Sequence[Command], *, assuming: bool
    ) -> tuple[Batch, list[Sequence[Fact] | Exception]]:
        streams = {stream for command in commands for stream in _streams(command)}
        assumed = self._states.assume_new(streams) if assuming else {}
        known = await self._states.get([stream for stream in streams if stream not in assumed])
        decided = Batch(AGGREGATES, known | assumed)
        outcomes = [_decide(decided, command) for command in commands]
        if decided.records:
            await self._store.insert_events(decided.records)
        return decided, outcomes


def _streams(command: Command) -> Sequence[str]:
    """All streams over which the command and its consequences are decided."""
    if not isinstance(command, Place):
        return command.streams
    order, order_id = command.order, command.order_id
    return (
        *command.streams,
        f"reservation-{order_id}",
        *(f"product-{line.product_id}" for line in order.lines),
        f"pointuse-{order_id}",
        f"account-{order.user_id}",
        coupon_stream(order.coupon_id, order_id),
        *([] if order.coupon_id is None else [f"coupon-{order.coupon_id}"]),
    )


def _decide(batch: Batch, command: Command) -> Sequence[Fact] | Exception:
    """The facts of the command, and of all that the services do because of them, in order."""
    try:
        waiting = deque(_with_ids(batch, command))
    except Exception as error:  # the domain's refusal of a request
        return error
    facts = []
    while waiting:
        fact, its_id = waiting.popleft()
        facts.append(fact)
        for service in SERVICES:
            reaction = service.reactions.get(type(fact))
            if reaction is not None:
                waiting += _with_ids(batch, reaction(fact, command.at, its_id))
    return facts


def _with_ids(batch: Batch, command: Command) -> list[tuple[Fact, str]]:
    first = len(batch.records)
    facts = batch.decide(command)
    ids = [fact_id(record.originator_id, record.originator_version) for record in batch.records[first:]]
    return list(zip(facts, ids, strict=True))


async def _serve() -> None:
    settings = load(OrderSettings, "order", 8_001, os.environ)
    folder = settings.data_dir / "one"
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(SQLiteStore.open(folder / "events.sqlite"))
        views = {
            view.name: await stack.enter_async_context(LogView.open(view, store, folder))
            for service in SERVICES
            for view in service.views
        }
        writer = OneWriter(store)
        runtime = _runtime(settings, store, writer, views)
        writer.recorded = runtime.recorded
        deadlines(runtime)
        server = Server(_app(runtime))
        server.config.host, server.config.port = settings.bind_host, settings.port
        work = [writer.run(), server.serve(), *(view.run() for view in views.values()), *(t() for t in runtime.tasks)]
        tasks = [asyncio.create_task(one) for one in work]
        tune_garbage_collection()
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def _runtime(settings: OrderSettings, store: SQLiteStore, writer: OneWriter, views: Mapping[str, LogView]) -> Any:
    """The runtime for the services' routes and watchers, with the parts that they use."""
    listeners: list[Callable[[Sequence[Fact]], None]] = []

    def recorded(facts: Sequence[Fact]) -> None:
        for view in views.values():
            view.log_has_grown()
        for listener in listeners:
            listener(facts)

    metrics = Metrics()
    return SimpleNamespace(
        metrics=metrics,
        requests=RequestDurations(metrics),
        settings=SimpleNamespace(
            order_deadline_s=settings.order_deadline_s,
            order_wait_s=settings.order_wait_s,
            orders_in_flight=settings.orders_in_flight,
            data_dir=settings.data_dir,
            broker_room=0,
            shop_tz="Asia/Seoul",
        ),
        writer=writer,
        store=store,
        clock=lambda: datetime.now(UTC),
        broker=SimpleNamespace(trouble=None, connection=None, stalled_s=0.0),
        views={"popular": None, **views},
        recorded=recorded,
        on_recorded=listeners,
        warnings=[],
        tasks=[],
        closing=asyncio.Event(),
    )


def _app(runtime: Any) -> Litestar:
    async def ready() -> list[str]:
        return []

    return build_app("one process", [route for service in SERVICES for route in service.routes(runtime)], ready)


if __name__ == "__main__":
    use_batch_scheduling()
    logs.configure("one_process", "WARNING", "text")
    uvloop.run(_serve())
