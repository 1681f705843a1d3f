"""Upper limits of this machine, in facts a second: publishing to JetStream, and committing to SQLite."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Literal

import msgspec
import uvloop
from msgspec import Struct

from bench.measure import cpu_s
from contracts.wire import MSG_ID
from infra.broker.client import VERSION_LINE
from infra.broker.connection import connect
from infra.broker.streams import ensure_stream
from infra.local.nats import run_nats
from infra.local.services import ROOT, free_environment
from infra.process import logging as logs
from infra.settings import Settings, load
from infra.store.records import Record
from infra.store.sqlite import SQLiteStore
from ops.replay.publishing import Publisher

FACTS: Final = 100_000
BATCH: Final = 64  # facts a commit
BODY: Final = b'{"type":"order.confirmed","at":"2026-03-02T00:00:00Z","padding":"%s"}' % (b"x" * 400)
"""A body as long as the average fact of an order."""

Name = Literal["broker", "log"]


class Ceiling(Struct):
    """One limit and its CPU time, that of all processes which take part."""

    name: Name
    says: str
    facts_per_s: float
    cpu_s_per_1000: float


def measure_all(shrink: float = 1.0) -> Iterator[Ceiling]:
    """Measure each limit in a process of its own."""
    facts = int(FACTS * shrink)
    return (_measured(name, facts) for name in ("broker", "log"))


def _measured(name: str, facts: int) -> Ceiling:
    command = [sys.executable, "-m", "bench.ceilings", name, str(facts)]
    return msgspec.json.decode(subprocess.check_output(command, cwd=ROOT), type=Ceiling)


# In the process -------------------------------------------------------------------------------------------------------


def broker(facts: int) -> Ceiling:
    """Publish with one client: 512 messages in flight, each with an id, each acknowledged."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        env = free_environment(Path(folder))
        with (Path(folder) / "nats.log").open("wb") as output, run_nats(env, output) as server:
            took_s, used_s = uvloop.run(_publish(env, facts, server.pid))
    says = "publish to JetStream, 512 in flight, each acknowledged"
    return Ceiling("broker", says, facts / took_s, 1_000 * used_s / facts)


async def _publish(env: dict[str, str], facts: int, server: int) -> tuple[float, float]:
    settings = load(Settings, "bench", 1, env)
    async with connect(settings, "bench", asyncio.Event()) as (nc, _):
        await ensure_stream(nc.jetstream(), settings)
        publisher = Publisher(nc, "EVENTS")
        await publisher.begin()
        began, before = time.perf_counter(), time.process_time() + cpu_s([server])
        for number in range(facts):
            head = f"{VERSION_LINE}\r\n{MSG_ID}: bench-{number}@1\r\n\r\n"
            await publisher.send(number + 1, f"order.confirmed.{number}", BODY, head)
        await publisher.finish()
        return time.perf_counter() - began, time.process_time() + cpu_s([server]) - before


def log(facts: int) -> Ceiling:
    """Commit 64 facts at a time, each commit synced to the disk before the next one."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        took_s, used_s = uvloop.run(_record(Path(folder), facts))
    says = f"commit to SQLite, {BATCH} facts a transaction, each synced"
    return Ceiling("log", says, facts / took_s, 1_000 * used_s / facts)


async def _record(folder: Path, facts: int) -> tuple[float, float]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(SQLiteStore.open(folder / "events.sqlite"))
        began, before = time.perf_counter(), time.process_time()
        for first in range(0, facts, BATCH):
            numbers = range(first, min(first + BATCH, facts))
            await store.insert_events([Record(f"order-{number}", 1, "order.confirmed", BODY) for number in numbers])
        return time.perf_counter() - began, time.process_time() - before


MEASURE: Final[dict[str, Callable[[int], Ceiling]]] = {"broker": broker, "log": log}


if __name__ == "__main__":
    logs.configure("bench", "WARNING", "text")
    sys.stdout.buffer.write(msgspec.json.encode(MEASURE[sys.argv[1]](int(sys.argv[2]))))
