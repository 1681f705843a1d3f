"""`python -m bench.history FACTS`: a long history, made by the services' own deciders, stores and relays, without HTTP.

It is recorded below DATA_DIR and in the stream of the broker that NATS_URL or NATS_PORT name.

One order in ten has a coupon that does not exist, one in twenty too few points, one in twenty no stock. A third of the
other orders has a coupon.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from contracts import Fact, Line, Order
from contracts.wire import fact_id
from coupon_svc.domain.coupon import Issue
from infra.broker.connection import connect
from infra.broker.numbering import EVENTS
from infra.broker.relay import Relay
from infra.broker.streams import ensure_stream
from infra.core.decider import Batch, Command
from infra.core.state_cache import StateCache
from infra.local.nats import run_nats
from infra.local.services import ROOT, free_environment, service_names
from infra.process import logging as logs
from infra.process.service import Service
from infra.settings import Settings, load
from infra.store.sqlite import SQLiteStore
from order_svc.domain import Place
from order_svc.ids import key_of, order_id
from point_svc.domain.charge import Charge
from product_svc.domain.product import Register

OPENING: Final = datetime(2026, 3, 2, tzinfo=UTC)
PRODUCTS: Final = 100
USERS: Final = 1_000
ORDERS_AT_ONCE: Final = 64
PLENTY: Final = 10**12
PATIENCE_S: Final = 30.0


class _Line:
    """One service without a process of its own."""

    def __init__(self, service: Service, store: SQLiteStore, relay: Relay) -> None:
        self.service = service
        self.inbox: deque[tuple[str, Fact]] = deque()
        self._store = store
        self._relay = relay
        self._states = StateCache(service.aggregates, store)

    async def decide(self, commands: list[Command]) -> list[tuple[str, Fact]]:
        """Decide and record; the new facts with their ids."""
        streams = {stream for command in commands for stream in command.streams}
        new = self._states.assume_new(streams)
        known = await self._states.get(streams - new.keys())
        batch = Batch(self.service.aggregates, known | new)
        for command in commands:
            batch.decide(command)
        await self._store.insert_events(batch.records)
        self._relay.log_has_grown()
        if snapshots := self._states.publish(batch.forks):
            await self._store.insert_snapshots(snapshots)
        ids = [fact_id(record.originator_id, record.originator_version) for record in batch.records]
        return list(zip(ids, batch.facts, strict=True))

    async def published(self) -> None:
        """Returns when the stream has all of the service's log."""
        async with asyncio.timeout(PATIENCE_S):
            await self._relay.caught_up.wait()


async def make(env: Mapping[str, str], facts: int) -> int:
    """Record a history of at least `facts` facts in stores below DATA_DIR and in the stream. Returns their number."""
    async with contextlib.AsyncExitStack() as stack:
        lines = {name: await stack.enter_async_context(_line(name, env)) for name in service_names()}
        shop = _Shop(lines)
        await shop.open()
        for numbers in _chunks():
            if shop.recorded >= facts:
                break
            await shop.serve(numbers)
        for line in lines.values():
            await line.published()
        return shop.recorded


@contextlib.contextmanager
def made(folder: Path, facts: int) -> Iterator[tuple[dict[str, str], int]]:
    """A broker with such a history, and the stores below this folder: their environment, and how many facts it has.

    A process of its own makes the history, so that no measured process keeps the memory of that.
    """
    env = free_environment(folder)
    with (folder / "nats.log").open("wb") as output, run_nats(env, output):
        command = [sys.executable, "-m", "bench.history", str(facts)]
        yield env, int(subprocess.check_output(command, cwd=ROOT, env={**os.environ, **env}))


def subjects(env: Mapping[str, str]) -> int:
    """How many subjects the stream of this environment's broker has."""
    return uvloop.run(_subjects(load(Settings, "bench", 1, env)))


async def _subjects(settings: Settings) -> int:
    async with connect(settings, "bench", asyncio.Event()) as (nc, _):
        answer = await nc.request(f"$JS.API.STREAM.INFO.{EVENTS}", timeout=PATIENCE_S)
    info = msgspec.json.decode(answer.data)
    return int(info["state"]["num_subjects"])


@contextlib.asynccontextmanager
async def _line(name: str, env: Mapping[str, str]) -> AsyncIterator[_Line]:
    settings = load(Settings, name, 1, env)
    service: Service = import_module(f"{name}_svc.__main__").SERVICE
    path = settings.data_dir / name / "events.sqlite"
    async with SQLiteStore.open(path) as store, connect(settings, name, asyncio.Event()) as (nc, _):
        js = nc.jetstream()
        await ensure_stream(js, settings)
        relay = Relay(name, store, nc)
        running = asyncio.create_task(relay.run())
        try:
            yield _Line(service, store, relay)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _chunks() -> Iterator[range]:
    first = 0
    while True:
        yield range(first, first + ORDERS_AT_ONCE)
        first += ORDERS_AT_ONCE


class _Shop:
    def __init__(self, lines: Mapping[str, _Line]) -> None:
        self.recorded = 0
        self._lines = lines
        self._random = random.Random(1)
        self._now = OPENING

    async def open(self) -> None:
        products: list[Command] = [
            Register(f"p{n}", f"Product {n}", 1_000, PLENTY if n else 0, at=self._now) for n in range(PRODUCTS)
        ]
        await self._said("product", products)
        await self._said("point", [Charge(f"u{n}", PLENTY if n else 1, "first", at=self._now) for n in range(USERS)])

    async def serve(self, numbers: range) -> None:
        """Place these orders and let all services handle what follows from them."""
        self._now += timedelta(milliseconds=30)
        placed = [self._place(number) for number in numbers]
        coupons = [command.order for command in placed if (command.order.coupon_id or "none").startswith("c")]
        validity = self._now + timedelta(days=30)
        await self._said("coupon", [Issue(o.coupon_id or "", o.user_id, 300, validity, at=self._now) for o in coupons])
        await self._said("order", list(placed))
        while any(line.inbox for line in self._lines.values()):
            for name, line in self._lines.items():
                commands = [line.service.reactions[type(fact)](fact, self._now, its_id) for its_id, fact in line.inbox]
                line.inbox.clear()
                await self._said(name, commands)
        for line in self._lines.values():
            await line.published()

    def _place(self, number: int) -> Place:
        some, chance = self._random, number % 20
        user, points = f"u{some.randrange(1, USERS)}", 10
        product, coupon = f"p{some.randrange(1, PRODUCTS)}", f"c{number}" if number % 3 == 0 else None
        if chance in (0, 1):
            coupon = "no-such-coupon"
        elif chance == 2:
            user = "u0"
        elif chance == 3:
            product = "p0"
        key = key_of(int(1_000 * self._now.timestamp()), some.getrandbits(80))
        order = Order(user, (Line(product, 1),), points, coupon, self._now)
        return Place(order_id(user, key), order, self._now + timedelta(seconds=30), at=self._now)

    async def _said(self, name: str, commands: list[Any]) -> None:
        self._now += timedelta(milliseconds=1)
        said = await self._lines[name].decide(commands) if commands else []
        self.recorded += len(said)
        for line in self._lines.values():
            line.inbox += [(its_id, fact) for its_id, fact in said if type(fact) in line.service.reactions]


if __name__ == "__main__":
    logs.configure("bench", "WARNING", "text")
    print(uvloop.run(make(os.environ, int(sys.argv[1]))))
