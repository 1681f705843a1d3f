"""The whole shop in one schedule: four services, their disks, the broker, customers, and faults."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Coroutine
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from nats.errors import Error as NatsError

from contracts import Order
from coupon_svc.domain.coupon import Issue
from infra.consuming.retry_queue import SessionOver
from infra.core.decider import Batch, Command, StreamState, category
from infra.core.errors import Busy, StoreUnavailable
from ops import reading
from ops.archive.archiving import Archived
from ops.invariants.checker import Message
from order_svc.domain import Cancel, NoSuchOrder, Place
from order_svc.ends import End
from order_svc.ids import order_id
from point_svc.domain.charge import Charge
from product_svc.domain.product import Register
from tests.domain.spec import SERVICES
from tests.sim.archiver import Archiver
from tests.sim.chance import Chance
from tests.sim.disk import Disk, Troubles
from tests.sim.faults import go_wrong
from tests.sim.jetstream import EPOCH
from tests.sim.link import Network
from tests.sim.loop import running
from tests.sim.process import DEADLINE_S, NO_ARCHIVE, Process, failing
from tests.sim.schedule import ARCHIVES, Schedule, Wish
from tests.sim.server import Server
from tests.sim.steps import Steps
from tests.sim.witness import CONSUMERS, ArchiveWitness

MOST_TIMES: Final = 30  # that a customer sends a request; by then all is over
AGAIN_S: Final = 0.2  # after this a customer whose request failed sends it again
PATIENCE_S: Final = 60.0  # once faults have stopped
LOOK_S: Final = 0.1
VALID: Final = EPOCH + timedelta(days=365)
MEMORY: Final = Path("/dev/shm")
"""Where archives are, if it is there: no disk has to be waited for."""


@cache
def archive_folder(process: int) -> Path:
    """The folder of the archive in all schedules of this process; missing, until something is archived."""
    folder = Path(tempfile.mkdtemp(prefix=f"sim-{process}-", dir=MEMORY if MEMORY.is_dir() else None))
    folder.rmdir()
    return folder


class Shop:
    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.wishes = schedule.wishes
        self.bounds = schedule.bounds
        self.chance = Chance(schedule.seed + 1)
        self.loop = running()
        self.server = Server(Chance(schedule.seed + 2).delay_s)
        self.steps = Steps()
        self.disks = {name: Disk(name) for name in SERVICES}
        self.troubles = {name: Troubles() for name in SERVICES}
        self.skews = dict.fromkeys(SERVICES, timedelta())
        self.processes: dict[str, Process] = {}
        self.answers: dict[str, End] = {}
        """By order: the end that a customer got as an answer."""
        self.busy = {name: asyncio.Lock() for name in SERVICES}
        """Held while a service is being killed or replaced."""
        self.rolled_back = False
        self.archive: ArchiveWitness | None = None
        """What sees the archive; None in a schedule without one."""
        self.archiver: Archiver | None = None
        self._archiving = asyncio.Lock()
        """Held by the archiver at work, as the lock of the archive's folder is."""
        if any(fault.kind == ARCHIVES for fault in schedule.faults):
            folder = archive_folder(os.getpid())
            shutil.rmtree(folder, ignore_errors=True)
            self.archive = self.server.witness = ArchiveWitness(folder, self.server, self.disks)
        self.poisoned: dict[str, list[str]] = {name: [] for name in SERVICES}
        """Orders that a service fails on, until it is mended."""

    # Processes --------------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        self.server.serves_a_new_process(name)
        self.processes[name] = self.process(name, self.disks[name])

    def process(self, name: str, disk: Disk) -> Process:
        service = failing(SERVICES[name], self.poisoned[name])
        return Process(
            service,
            disk,
            self.server,
            self.chance,
            self.troubles[name],
            self.skews[name],
            self.bounds,
            self.steps,
            NO_ARCHIVE if self.archive is None else str(self.archive.folder),
        )

    async def stop(self) -> None:
        for process in self.processes.values():
            await process.kill()
        if self.archiver is not None:
            await self.archiver.kill()
        if self.archive is not None:
            shutil.rmtree(self.archive.folder, ignore_errors=True)

    async def archive_once(self) -> Archived | None:
        """Run an archiver. Returns what it did; None if it failed or was killed."""
        assert self.archive is not None
        async with self._archiving:
            self.archiver = Archiver(self.server, self.disks, self.chance, self.steps, self.archive)
            return await self.archiver.done()

    # A schedule -------------------------------------------------------------------------------------------------------

    async def run(self) -> bool:
        """Play the schedule. Returns whether all became quiet."""
        self._furnish()
        for name in SERVICES:
            self.start(name)
        began = self.loop.time()
        async with asyncio.TaskGroup() as group:
            for wish in self._schedule.wishes:
                for _ in range(wish.times):
                    group.create_task(self._at(began + wish.at_s, self._order(wish)))
                if wish.cancel_after_s is not None:
                    at_s = began + wish.at_s + wish.cancel_after_s
                    group.create_task(self._at(at_s, self._cancel(wish)))
            for fault in self._schedule.faults:
                group.create_task(self._at(began + fault.at_s, go_wrong(self, fault)))
        quiet = await self._becomes_quiet()
        if self.archive is None or not quiet:
            return quiet
        await self.archive_once()  # of what is over now; nothing disturbs it
        return await self._becomes_quiet()

    async def _becomes_quiet(self) -> bool:
        for _ in range(int(PATIENCE_S / LOOK_S)):
            await self._redrive()
            if self._is_quiet():
                return True
            await asyncio.sleep(LOOK_S)
        return False

    async def _at(self, when: float, work: Coroutine[Any, Any, None]) -> None:
        await asyncio.sleep(when - self.loop.time())
        await work

    def _furnish(self) -> None:
        """Record what the shop begins with. No service has heard these facts yet."""
        schedule, now = self._schedule, EPOCH
        wanted: dict[str, list[Command]] = {
            "product": [Register(product, product, 10, stock, at=now) for product, stock in schedule.stock.items()],
            "point": [Charge(user, amount, "first", at=now) for user, amount in schedule.balances.items() if amount],
            "coupon": [Issue(coupon, user, 3, VALID, at=now) for coupon, user in schedule.coupons.items()],
        }
        for name, commands in wanted.items():
            aggregates = SERVICES[name].aggregates
            batch = Batch(
                aggregates,
                {
                    stream: StreamState(0, aggregates[category(stream)].state())
                    for one in commands
                    for stream in one.streams
                },
            )
            for command in commands:
                batch.decide(command)
            self.disks[name].append(batch.records)

    async def _redrive(self) -> None:
        """Redrive the dead letters, as an operator does once all is fixed."""
        for process in self.processes.values():
            broker = process.runtime.broker
            for key in broker.dead_letters.keys:
                if broker.supervisor.retry_queue is not None:
                    with contextlib.suppress(SessionOver, StoreUnavailable, NatsError):
                        await broker.supervisor.retry_queue.redrive(key, dry_run=False)

    def _is_quiet(self) -> bool:
        """Whether every log is in the stream, and every consumer has acknowledged all of it."""
        server = self.server
        if (
            not server.streams
            or not server.up
            or any(len(one.consumers) < CONSUMERS for one in server.streams.values())
        ):
            return False
        if any(process.runtime.broker.trouble for process in self.processes.values()):
            return False
        if self.server.dead.messages:
            return False
        logged = {f"{r.originator_id}@{r.originator_version}" for disk in self.disks.values() for r in disk.log}
        return logged <= self.published and not any(consumer.outstanding for consumer in server.consumers)

    @property
    def published(self) -> set[str]:
        """The ids of all facts that are in a stream or in the archive."""
        archived = set() if self.archive is None else self.archive.ids
        return archived.union(message.fact_id for message in self.server.messages if message.subject)

    async def history(self) -> list[Message]:
        """All messages of archive and streams; where there is an archive, as the tools read them."""
        if self.archive is None:
            return [Message(one.sequence, one.fact_id, one.body) for one in self.server.messages if one.subject]
        connect: Any = Network(self.server, self.chance).connect
        async with reading.stream({"ARCHIVE_DIR": str(self.archive.folder)}, connect) as stream:
            return [Message(one.sequence, one.fact_id, one.body) async for one in reading.read(stream)]

    # Customers --------------------------------------------------------------------------------------------------------

    async def _order(self, wish: Wish) -> None:
        """Place the order as `POST /orders` does, again and again until there is an answer."""
        placed = order_id(wish.user_id, wish.key)
        for _ in range(MOST_TIMES):
            process, now = self.processes["order"], EPOCH + timedelta(seconds=self.loop.time())
            order = Order(wish.user_id, wish.lines, wish.points, wish.coupon_id, now)
            command = Place(placed, order, now + timedelta(seconds=DEADLINE_S), at=now)
            end = await process.unless_dead(self._place(process, command))
            if end is not None:
                self.loop.note("{}, {}: order {} is {}", wish.user_id, wish.key, placed[:6], type(end).__name__)
                if self.answers.setdefault(placed, end) != end:
                    raise AssertionError(f"order {placed} was answered twice: {self.answers[placed]}, then {end}")
                return
            await asyncio.sleep(AGAIN_S)

    async def _place(self, process: Process, command: Place) -> End | None:
        watched = process.ends.watch(command.order_id)
        try:
            answer = await process.runtime.writer.execute(command)
            return answer.states[0].first_end or await watched
        except (Busy, StoreUnavailable):
            return None
        finally:
            process.ends.forget(command.order_id, watched)

    async def _cancel(self, wish: Wish) -> None:
        now = EPOCH + timedelta(seconds=self.loop.time())
        with contextlib.suppress(NoSuchOrder, Busy, StoreUnavailable):
            process = self.processes["order"]
            cancel = Cancel(order_id(wish.user_id, wish.key), wish.user_id, at=now)
            await process.unless_dead(process.runtime.writer.execute(cancel))
