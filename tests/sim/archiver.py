"""An archiver: a process that runs the product's own `orders archive` once, over the modelled broker and disks.

Its archive is a real folder. It can be killed, or its broker fail, at these steps:

read       a reading of a stream has ended: of orders, for the files, or for their proof
written    the files are written, and nothing of them is proven
archived   the manifest is written
labeled    a stream that stays knows of it
deleting   the stream is about to be deleted
deleted    the stream is gone
"""

import asyncio
import contextvars
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, cast

from infra.archive.manifest import ArchivedFile
from infra.archive.places import Folder
from infra.archive.reader import Archive
from infra.broker.connection import Connect
from infra.broker.consumers import consumer_names
from infra.store.records import Notification
from ops import reading
from ops.archive.archiving import Archived, archive_closed
from ops.archive.proof import HistoryCopies
from ops.archive.readiness import ListenerConsumers
from ops.errors import Found, Unreachable
from ops.foreign import KnownForeign
from tests.domain.spec import SERVICES
from tests.sim.chance import Chance
from tests.sim.disk import Disk
from tests.sim.link import Network
from tests.sim.loop import OWNER, running
from tests.sim.schedule import ARCHIVER
from tests.sim.server import Server
from tests.sim.steps import Reach, Steps
from tests.sim.witness import ArchiveWitness

HEARD_BY: Final = [
    ListenerConsumers(name, name, consumer_names(name, service.hears))
    for name, service in SERVICES.items()
    if service.hears
]
SPOILED: Final = 0.1
"""The share of generations whose files are not on the disk as they were written."""


class Log:
    """What an archiver reads of a service's log."""

    def __init__(self, disk: Disk, chance: Chance) -> None:
        self._disk = disk
        self._chance = chance

    async def select_stream(self, stream: str) -> list[Notification]:
        await asyncio.sleep(self._chance.delay_s())
        return [Notification(n, *one) for n, one in enumerate(self._disk.log, 1) if one.originator_id == stream]

    async def find_all(self, ids: Collection[tuple[str, int]]) -> list[Notification]:
        await asyncio.sleep(self._chance.delay_s())
        wanted = set(ids)
        return [Notification(n, *one) for n, one in enumerate(self._disk.log, 1) if one[:2] in wanted]


class SteppedFolder(Folder):
    """The archive's folder. It tells of its steps, and of each manifest; `spoils`: whether it loses what is written."""

    def __init__(self, path: Path, reach: Reach, witness: ArchiveWitness, spoils: Callable[[], bool]) -> None:
        super().__init__(path)
        self._reach = reach
        self._witness = witness
        self._spoils = spoils

    def add(self, stream: str, written: Sequence[ArchivedFile]) -> None:
        if self._spoils():
            running().note("the files of {} are spoiled", stream)
            with self.whole(stream, written[0]).open("r+b") as file:
                file.truncate(written[0].bytes // 2)
        self._reach("written")

    def publish(self, name: str, content: bytes) -> None:
        super().publish(name, content)
        self._witness.archived(name.removesuffix(".json"))
        self._reach("archived")


class Archiver:
    """One run. `done` says what came of it."""

    name = ARCHIVER

    def __init__(
        self, server: Server, disks: Mapping[str, Disk], chance: Chance, steps: Steps, witness: ArchiveWitness
    ) -> None:
        context = contextvars.copy_context()
        context.run(OWNER.set, self)
        self._loop = running()
        self._chance = chance
        self._witness = witness
        self._reach = partial(steps.reached, self)
        self._network = Network(server, chance, self._reach)
        self._logs = {name: Log(disk, chance) for name, disk in disks.items()}
        self._task = asyncio.create_task(self._run(), context=context)

    async def _run(self) -> Archived:
        witness, connect = self._witness, cast(Connect, self._network.connect)
        async with reading.stream({"ARCHIVE_DIR": str(witness.folder)}, connect) as stream:
            witness.begins()
            spoils = partial(self._chance.happens, SPOILED)
            archive = Archive(SteppedFolder(witness.folder, self._reach, witness, spoils))
            copies = HistoryCopies(stream._replace(archive=archive), self._logs, KnownForeign())
            return await archive_closed(copies, archive, HEARD_BY, Unwatched())

    async def done(self) -> Archived | None:
        """What was done; None if the run was killed, or failed as such runs may. Raises what no run may raise."""
        await asyncio.wait([self._task])
        if self._task.cancelled():
            return None
        error = self._task.exception()
        if isinstance(error, Found | Unreachable):
            self._loop.note("the archiver says: {}", str(error).replace(str(self._witness.folder), "ARCHIVE_DIR"))
            return None
        done = self._task.result()
        self._loop.note("the archiver says: deleted {}, kept {}", done.deleted, done.kept)
        return done

    async def kill(self) -> None:
        """kill -9, as of a service's process."""
        self._loop.go_on(self)
        self._network.die()
        self._task.cancel()
        await asyncio.wait([self._task])

    def pause(self) -> None:
        self._loop.pause(self)

    def go_on(self) -> None:
        self._loop.go_on(self)


class Unwatched:
    """A Watch that shows nothing."""

    def begins(self, what: str, items: int) -> None: ...
    def advances(self, items: int) -> None: ...
