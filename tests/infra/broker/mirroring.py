"""The log of a point_svc, and a relay that publishes it into a real stream."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from contracts import PointCharged
from contracts.wire import POSITION, encode
from infra.broker.client import BrokerClient
from infra.broker.generations import ensure_generations, find_generations
from infra.broker.leader import Leader, leader_of
from infra.broker.relay import ACK_TIMEOUT_S, STALLED_AFTER_S, Relay
from infra.settings import Settings, load
from infra.store.event_store import EventStore
from infra.store.records import Record
from infra.store.sqlite import SQLiteStore
from tests.infra.purse import NOON
from tests.shop import PATIENCE_S, Shop


def settings(broker: Shop) -> Settings:
    return load(Settings, "point", 8003, broker.env)


def charged(n: int, user: str = "ann", *, padding: int = 0) -> Record:
    """The nth charge of a user, with a key of `padding` characters more."""
    fact = PointCharged(at=NOON, user_id=user, amount=n, idempotency_key=f"k{n}" + "." * padding)
    return Record(f"account-{user}", n, "point.charged", encode(fact))


async def append(store: EventStore, first: int, last: int, user: str = "ann") -> None:
    await store.insert_events([charged(n, user) for n in range(first, last + 1)])


@contextlib.asynccontextmanager
async def a_log() -> AsyncIterator[SQLiteStore]:
    with tempfile.TemporaryDirectory() as folder:
        async with SQLiteStore.open(Path(folder) / "events.sqlite") as store:
            yield store


@contextlib.asynccontextmanager
async def session(broker: Shop) -> AsyncIterator[JetStreamContext]:
    """A connection to a broker that has the stream."""
    async with broker.broker() as nc:
        js = nc.jetstream()
        await ensure_generations(nc, js, settings(broker))
        yield js


def client(js: JetStreamContext) -> BrokerClient:
    """The connection of a session."""
    assert isinstance(js._nc, BrokerClient)
    return js._nc


async def leader(js: JetStreamContext) -> Leader:
    return await leader_of(client(js), js)


async def leaders(js: JetStreamContext) -> list[Leader]:
    """The leaders of all generations, the oldest first."""
    return [Leader(client(js), info) for info in await find_generations(client(js), js)]


class Mirror:
    """A relay at work."""

    def __init__(self, relay: Relay, run: asyncio.Task[None]) -> None:
        self.relay = relay
        self.run = run

    async def caught_up(self) -> None:
        """Returns when the stream has all of the log; raises what ended the relay."""
        waiting = asyncio.create_task(self.relay.caught_up.wait())
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([waiting, self.run], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.run.done():
            self.run.result()

    async def failed(self) -> BaseException | None:
        """What ended the relay."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([self.run])
        return self.run.exception()


async def _publish(relay: Relay, js: JetStreamContext) -> None:
    await relay.find_resume_position(await leaders(js))
    await relay.run()


@contextlib.asynccontextmanager
async def mirroring(
    broker: Shop, store: EventStore, *, ack_timeout_s: float = ACK_TIMEOUT_S, stalled_after_s: float = STALLED_AFTER_S
) -> AsyncIterator[Mirror]:
    """A relay's session: on a fresh connection, as in the service."""
    async with session(broker) as js:
        relay = Relay("point", store, client(js), ack_timeout_s=ack_timeout_s, stalled_after_s=stalled_after_s)
        mirror = Mirror(relay, asyncio.create_task(_publish(relay, js)))
        try:
            yield mirror
        finally:
            mirror.run.cancel()
            await asyncio.gather(mirror.run, return_exceptions=True)


@contextlib.asynccontextmanager
async def sending(broker: Shop) -> AsyncIterator[list[int]]:
    """The positions of all facts that point_svc sends from now on, also those the stream refuses."""
    sent: list[int] = []

    async with broker.broker() as nc:

        async def note(message: Msg) -> None:
            if position := (message.headers or {}).get(POSITION):  # not a probe
                sent.append(int(position))

        subscription = await nc.subscribe("point.>", cb=note)
        await nc.flush()
        yield sent
        with contextlib.suppress(OSError, NatsError):  # the broker may have been killed meanwhile
            await subscription.drain()  # type: ignore[no-untyped-call]


@contextlib.asynccontextmanager
async def answering(broker: Shop) -> AsyncIterator[list[dict[str, Any]]]:
    """The broker's answers to all clients from now on."""
    answers: list[dict[str, Any]] = []

    async with broker.broker() as nc:

        async def note(message: Msg) -> None:
            answers.append(json.loads(message.data))

        subscription = await nc.subscribe("_INBOX.>", cb=note)
        await nc.flush()
        yield answers
        await subscription.drain()  # type: ignore[no-untyped-call]
