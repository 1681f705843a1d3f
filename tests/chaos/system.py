"""The shop under test: real processes, each service behind a line of its own to the broker, all on one disk."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from infra.archive.reader import Archive
from infra.broker.generations import find_generations
from infra.broker.rolling import Sealing
from infra.local.services import ROOT, service_names
from tests.chaos.disk import ARCHIVE, Disk
from tests.chaos.proxy import Proxy
from tests.forked import LIMIT_S, Forked
from tests.shop import Shop, attempts

BROKER: Final = "nats"
SERVICES: Final = tuple(service_names())
SERVICE_KILLED: Final = "service killed"
BROKER_KILLED: Final = "broker killed"
POWER_CUT: Final = "power cut"
STORE_LOST: Final = "broker's store lost"
ARCHIVED: Final = "archived"
ARCHIVER_KILLED: Final = "archiver killed"
SETTINGS: Final = {"ORDER_WAIT_S": "1", "ORDER_DEADLINE_S": "10", "LOG_FORMAT": "text"}
"""Orders that hang for seconds run into their deadline, so that their compensation meets the faults, too."""


class Did(NamedTuple):
    """A fault that happened. `how`: the step at which a service was killed."""

    what: str
    who: str
    how: str = ""


class System(Shop):
    """The shop with a proxy for each service. `disk`: the place of all data, if it can lose power; else a folder is.

    `did`: the faults so far, counted. `dropped`: writes lost in power cuts. `had_ended`: processes found to have ended
    by themselves.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        super().__init__(folder, ROOT, **SETTINGS)
        self.disk = disk
        self.did: Counter[Did] = Counter()
        self.had_ended: Counter[str] = Counter()
        self.dropped = 0
        self.busy = {name: asyncio.Lock() for name in (*SERVICES, BROKER)}
        self.archiving = asyncio.Lock()
        """Held while an archiver runs, or its disk loses power."""
        self._archiver: Forked | None = None
        self.lines = {name: Proxy(int(self.env["NATS_PORT"])) for name in SERVICES}
        if disk is not None:
            for name in (*self.busy, ARCHIVE):
                (folder / name).symlink_to(disk.folder(name), target_is_directory=True)

    async def open(self) -> None:
        for line in self.lines.values():
            await line.open()
        await self.start_nats()
        for name in SERVICES:
            await self.spawn(name)
        await self.ready()

    async def seal(self) -> None:
        """Seal each generation that has a successor, however busy it is. Raises the client's errors."""
        async with self.broker() as nc:
            js = nc.jetstream(timeout=2)
            await Sealing(0.0).look(js, await find_generations(nc, js), 0.0)

    async def archive(self, step: str = "") -> int:
        """Run `orders archive`; with `step`, it dies there, if it comes to it. Returns its exit code."""
        async with self.archiving:
            had = self._archived()
            env = {**self.env, "CRASH_AT": step}
            self._archiver = Forked("tests.wrappers.archive", env=env, stdout=self.log(ARCHIVE))
            code = await asyncio.to_thread(self._archiver.wait, LIMIT_S)
            self.did[Did(ARCHIVED, ARCHIVE)] += self._archived() - had
            if code == -signal.SIGKILL:
                self.did[Did(ARCHIVER_KILLED, ARCHIVE, step)] += 1
            return code

    def _archived(self) -> int:
        return len(Archive(self.folder / ARCHIVE).manifests)

    def kill_archiver(self) -> None:
        if self._archiver is not None:
            self._archiver.kill()

    async def close(self) -> None:
        self.kill_archiver()
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
        await super().close()
        for line in self.lines.values():
            await line.close()

    async def spawn(self, name: str, step: str | None = None, after: int = 1) -> None:
        """Start this process without waiting until it is ready. With `step`, the service kills itself at that step."""
        if name == BROKER:
            await self.start_nats()
            return
        plain = self.env
        self.env = {**plain, "NATS_URL": self.lines[name].url, "CRASH_AT": step or "", "CRASH_AFTER": str(after)}
        try:
            await self.start(name, wrapper="crash" if step else None, ready=False)
        finally:
            self.env = plain

    async def up(self, name: str) -> None:
        """Returns when the process answers, with any answer, or has ended."""
        async for _ in attempts(f"{name} to answer"):
            if name == BROKER or self.processes[name].poll() is not None:
                return
            with contextlib.suppress(httpx.TransportError):
                await self.get(name, "/healthz")
                return

    def lose_stream(self) -> None:
        for path in (self.folder / BROKER).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    async def heal(self) -> None:
        """End the effects of faults: stopped or ended processes, broken lines, a full disk. No fault may be active."""
        for name, process in self.processes.items():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            if name in self.lines:
                self.lines[name].heal()
        if self.disk is not None:
            await self.disk.free(*self.busy)
        for name in (BROKER, *SERVICES):
            if self.processes[name].poll() is not None:
                self.had_ended[name] += 1
                await self.spawn(name)

    @property
    def urls(self) -> dict[str, str]:
        return {name: self.url(name, "") for name in SERVICES}

    @property
    def outside(self) -> dict[str, str]:
        """The environment for looking at the system from outside, past the proxies."""
        return {**os.environ, **self.env}


@contextlib.asynccontextmanager
async def open_system(folder: Path, disk: Disk | None = None) -> AsyncIterator[System]:
    system = System(folder, disk)
    try:
        await system.open()
        yield system
    finally:
        await system.close()
