"""A fault in a running shop: `orders status`, the dashboard and `/readyz` name it within 10 s, its alert within 30 s.

The alerts are those of docs/monitoring, evaluated by a Prometheus on what the services export meanwhile.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from infra.local.services import ROOT
from tests.chaos.disk import Disk, can_mount, mounted
from tests.drill.listed import Fault, faults, says
from tests.metrics.test_prometheus import Prometheus, watching
from tests.ops.boards import Board
from tests.saga.test_dead_letters import say
from tests.shop import PATIENCE_S, Shop, attempts

NAMED_S = 10.0
ALERTED_S = 30.0
VICTIM = "point"
SHIPPED = "5s"
"""How often the Prometheus of docs/monitoring scrapes and evaluates."""


class Drill(NamedTuple):
    """A running shop in which orders come, a folder beside it, and its disk, if the victim's store is on one."""

    shop: Shop
    folder: Path
    disk: Disk | None = None

    @property
    def store(self) -> Path:
        return self.shop.folder / VICTIM


async def killed(drill: Drill) -> None:
    await drill.shop.kill(VICTIM)


async def stopped(drill: Drill) -> None:
    drill.shop.processes[VICTIM].send_signal(signal.SIGSTOP)


async def without_broker(drill: Drill) -> None:
    await drill.shop.kill("nats")


async def poisoned(drill: Drill) -> None:
    await say(drill.shop, "product.reserved.o1", b"{}", "forged@1")


async def full(drill: Drill) -> None:
    assert drill.disk is not None
    await drill.disk.fill(VICTIM)


async def replaced(drill: Drill) -> None:
    shutil.copytree(drill.store, drill.folder / "another")
    drill.store.rename(drill.folder / "away")
    (drill.folder / "another").rename(drill.store)


async def older(drill: Drill) -> None:
    """The copy that `older_store` made before the shop was opened is put in place of the store."""
    await drill.shop.stop(VICTIM)
    drill.store.rename(drill.folder / "newer")
    shutil.copytree(drill.folder / "older", drill.store)
    await drill.shop.start(VICTIM, ready=False)
    async for _ in attempts("it to listen"):
        with contextlib.suppress(httpx.TransportError):
            await drill.shop.get(VICTIM, "/healthz")
            return


async def set_back(drill: Drill) -> None:
    drill.shop.processes[VICTIM].send_signal(signal.SIGUSR1)


FAULTS: dict[str, Callable[[Drill], Awaitable[None]]] = {
    "a service is killed": killed,
    "a service is stopped, or hangs": stopped,
    "the broker is gone": without_broker,
    "a message cannot be handled": poisoned,
    "the disk of a store is full": full,
    "a store is replaced under its service": replaced,
    "a service starts with an older store": older,
    "a clock is set back, while orders come": set_back,
}
LISTED = faults()
NEEDS_DISK = "the disk of a store is full"
RUN = [name for name in FAULTS if name != NEEDS_DISK or can_mount() or os.environ.get("TEST_ALL")]
"""Without root and /dev/fuse there is no disk that can be filled."""


def test_the_runbook_lists_every_fault_of_the_drill_and_no_other() -> None:
    assert list(LISTED) == list(FAULTS)


@contextlib.contextmanager
def own_disk(fault: str, folder: Path) -> Iterator[Disk | None]:
    """A disk for the victim's store alone, if the fault fills it."""
    if fault != NEEDS_DISK:
        yield None
        return
    with mounted(folder / "disk") as disk:
        (folder / "shop" / VICTIM).symlink_to(disk.folder(VICTIM), target_is_directory=True)
        yield disk


@contextlib.asynccontextmanager
async def opened(fault: str, folder: Path) -> AsyncIterator[Drill]:
    (folder / "shop").mkdir()
    with own_disk(fault, folder) as disk:
        shop = Shop(folder / "shop")
        try:
            await shop.start_nats()
            others = [name for name in shop.services if name != VICTIM]
            await shop.start(*others, ready=False)
            await shop.start(VICTIM, wrapper="set_back")
            await shop.ready()
            await shop.register("mug", stock=1_000_000)
            await shop.charge("u1", 1_000_000)
            if fault == "a service starts with an older store":
                await shop.stop(VICTIM)
                shutil.copytree(shop.folder / VICTIM, folder / "older")
                await shop.start(VICTIM)
            assert (await shop.place([("mug", 1)], points=1)).status_code == 200
            await shop.until_quiet()
            yield Drill(shop, folder, disk)
        finally:
            for process in shop.processes.values():
                process.send_signal(signal.SIGCONT)
            if disk is not None:
                await disk.free(VICTIM)
            await shop.close()


@contextlib.asynccontextmanager
async def customers(shop: Shop) -> AsyncIterator[None]:
    """Orders come, a few a second, whatever becomes of them."""

    async def order() -> None:
        with contextlib.suppress(httpx.TransportError):
            await shop.place([("mug", 1)], points=1)

    async def come() -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(order())
                await asyncio.sleep(0.2)

    coming = asyncio.create_task(come())
    try:
        yield
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


class Sentences:
    """The first lines of `orders status --watch`, the newest alone."""

    def __init__(self) -> None:
        self.newest = ""

    async def read(self, output: asyncio.StreamReader) -> None:
        async for line in output:
            self.newest = json.loads(line)["sentence"]


@contextlib.asynccontextmanager
async def status(shop: Shop) -> AsyncIterator[Sentences]:
    """`orders status --watch`, which has said that all is well."""
    watching = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "ops.orders", "status", "--watch", "0.5", "--json"],
        cwd=ROOT,
        env={**os.environ, **shop.env, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert watching.stdout is not None
    sentences = Sentences()
    reading = asyncio.create_task(sentences.read(watching.stdout))
    try:
        async for _ in attempts("the first sentence"):
            if sentences.newest.startswith("All is well"):
                break
        yield sentences
    finally:
        watching.kill()
        await watching.wait()
        await reading


@contextlib.asynccontextmanager
async def boarded(shop: Shop) -> AsyncIterator[Board]:
    """A dashboard that has said that all is well; it ends with the shop."""
    board = Board(shop)
    await board.start()
    async for _ in attempts("the dashboard's first sentence"):
        if (await board.sentence()).startswith("All is well"):
            break
    yield board


async def is_said(fault: Fault, sentences: Sentences, shop: Shop) -> None:
    with _with("the newest sentence", lambda: sentences.newest):
        async for _ in attempts(f"`orders status` to say {fault.sentence!r}", NAMED_S):
            if says(fault.sentence, sentences.newest, shop.env):
                return


async def is_shown(fault: Fault, board: Board) -> None:
    """The first screen's sentence says it, to a person who loads the page."""
    shown = ""
    with _with("the dashboard's sentence", lambda: shown):
        async for _ in attempts(f"the dashboard to say {fault.sentence!r}", NAMED_S):
            shown = await board.sentence()
            if says(fault.sentence, shown, board.shop.env):
                return


async def is_ready_no_more(fault: Fault, shop: Shop) -> None:
    told: list[str] = []
    with _with("/readyz", lambda: told):
        async for _ in attempts(f"/readyz to say {fault.readiness!r}", NAMED_S):
            with contextlib.suppress(httpx.TransportError):
                body = (await shop.get(fault.service, "/readyz")).json()
                told = [*body.get("warnings", []), body.get("detail", "")]
                if any(says(fault.readiness, text, shop.env) for text in told):
                    return


async def is_alerted(fault: Fault, prometheus: Prometheus) -> None:
    """The alert is pending, or fires, for the victim: its expression is true."""
    async for _ in attempts(f"the expression of {fault.alert} to be true", ALERTED_S):
        if f"{VICTIM}_svc" in await prometheus.query(f'ALERTS{{alertname="{fault.alert}"}}'):
            return


@contextlib.contextmanager
def _with(what: str, shown: Callable[[], object]) -> Iterator[None]:
    """Add to a failure what there was instead."""
    try:
        yield
    except AssertionError as error:
        error.add_note(f"{what}: {shown()!r}")
        raise


@pytest.mark.parametrize("name", RUN)
async def test_its_cause_is_named_at_once(name: str, tmp_path: Path) -> None:
    fault = LISTED[name]
    (tmp_path / "prometheus").mkdir()
    async with (
        opened(name, tmp_path) as drill,
        watching(drill.shop, tmp_path / "prometheus", SHIPPED) as prometheus,
        boarded(drill.shop) as board,
        customers(drill.shop),
        status(drill.shop) as sentences,
    ):
        async for _ in attempts("all services to be scraped", PATIENCE_S):
            if await prometheus.query('up{job="saga"}') == {f"{one}_svc": 1 for one in drill.shop.services}:
                break
        assert not await prometheus.query('ALERTS{alertname!="Watchdog"}')

        await FAULTS[name](drill)

        async with asyncio.TaskGroup() as group:
            group.create_task(is_said(fault, sentences, drill.shop))
            group.create_task(is_shown(fault, board))
            group.create_task(is_ready_no_more(fault, drill.shop))
            group.create_task(is_alerted(fault, prometheus))
