"""A service's process: the real writer, sessions, relay and deadlines over a modelled disk and network."""

import asyncio
import contextvars
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from msgspec import structs

from contracts import Fact, OrderCanceled, OrderConfirmed, OrderCreatedPending
from contracts.wire import decode
from infra.core.decider import Command
from infra.process.service import Service, assemble
from infra.timestamps import microseconds
from order_svc.ends import Ends
from order_svc.listing import Listing
from order_svc.settings import OrderSettings
from tests.sim.bounds import Bounds
from tests.sim.chance import Chance
from tests.sim.disk import Disk, Store, Troubles
from tests.sim.jetstream import EPOCH
from tests.sim.link import Network
from tests.sim.loop import OWNER, running
from tests.sim.server import Server
from tests.sim.steps import Steps

T = TypeVar("T")

DEADLINE_S: Final = 2.0
NO_ARCHIVE: Final = "/nonexistent/archive"
SETTINGS: Final = OrderSettings(port=1, archive_dir=NO_ARCHIVE, order_deadline_s=DEADLINE_S, order_wait_s=1.0)


def failing(service: Service, poisoned: Collection[str]) -> Service:
    """The service with a bug: it fails on every fact that it hears about these orders."""

    def but_for(reaction: Callable[..., Command]) -> Callable[..., Command]:
        def react(fact: Any, now: datetime, fact_id: str) -> Command:
            if fact.order_id in poisoned:
                raise ZeroDivisionError(f"a bug, at {fact_id}")
            return reaction(fact, now, fact_id)

        return react

    reactions: dict[type[Fact], Callable[..., Command]] = {
        fact: but_for(reaction) for fact, reaction in service.reactions.items()
    }
    return replace(service, reactions=reactions)


class LeftOpen:
    """The one question that the deadlines ask the order list: which orders are open."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def log_has_grown(self) -> None:
        """Nothing to do: the log is read on every query."""

    async def select(self, _: str) -> list[tuple[str, int]]:
        found: dict[str, int] = {}
        for record in self._disk.log:
            fact = decode(record.state)
            if isinstance(fact, OrderCreatedPending):
                found[fact.order_id] = microseconds(fact.deadline)
            elif isinstance(fact, OrderConfirmed | OrderCanceled):
                found.pop(fact.order_id, None)
        return list(found.items())


class Process:
    def __init__(
        self,
        service: Service,
        disk: Disk,
        server: Server,
        chance: Chance,
        troubles: Troubles,
        skew: timedelta,
        bounds: Bounds,
        steps: Steps,
        archive: str = NO_ARCHIVE,
    ) -> None:
        """`skew`: how far its clock is off; it may be changed. `archive`: the folder of the archive."""
        self.name = service.name
        reach = partial(steps.reached, self)
        context = contextvars.copy_context()
        context.run(OWNER.set, self)
        self.skew = skew
        self._loop = running()
        self.network = Network(server, chance, reach)
        store = Store(disk, chance, troubles, reach, bounds.tail_records)
        views: Any = {Listing.name: LeftOpen(disk)}
        connect: Any = self.network.connect
        settings = structs.replace(
            SETTINGS,
            duplicate_window_s=bounds.duplicate_window_s,
            events_replicas=bounds.replicas,
            archive_dir=archive,
        )
        self.runtime = assemble(
            service,
            settings,
            store,
            views,
            clock=self._clock,
            connect=connect,
            chance=chance.random,
            writer_limits=bounds.of_a_writer,
            session_limits=bounds.of_a_session,
        )
        self.ends = Ends(self.runtime.closing, SETTINGS.order_wait_s)
        self.runtime.on_recorded.append(self.ends.recorded)
        for watcher in service.watchers:
            watcher(self.runtime)
        self._dead: asyncio.Future[None] = self._loop.create_future()
        self._tasks = [
            asyncio.create_task(work, context=context)
            for work in (
                self.runtime.writer.run(),
                self.runtime.broker.run(),
                *(task() for task in self.runtime.tasks),
            )
        ]

    def _clock(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time()) + self.skew

    async def kill(self) -> None:
        """kill -9: nothing that the process was about to do has an effect any more."""
        self._loop.go_on(self)
        self.network.die()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._dead.done():
            self._dead.set_result(None)

    async def unless_dead(self, asking: Coroutine[Any, Any, T]) -> T | None:
        """The answer to a request; None if the process is killed before there is one."""
        task = asyncio.create_task(asking)
        waiting: list[asyncio.Future[Any]] = [task, self._dead]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        return None

    def pause(self) -> None:
        """SIGSTOP, until `go_on`."""
        self._loop.pause(self)

    def go_on(self) -> None:
        self._loop.go_on(self)

    @property
    def broken(self) -> BaseException | None:
        """The error that ended a task which should never end."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                return task.exception() or RuntimeError("a task ended by itself")
        return None
