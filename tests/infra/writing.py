"""A writer of purses at work."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from contracts import Fact
from contracts.wire import MSG_ID, NAMES, POSITION, STREAM, VERSION, encode
from infra.core.decider import Aggregates
from infra.core.limits import WriterLimits
from infra.core.messages import Delivery, StreamPosition
from infra.core.unit_of_work import Answer
from infra.core.writer import Writer
from infra.store.records import Record
from tests.infra.purse import AGGREGATES, NOON, REACTIONS, Acknowledgements, Charge, WatchedStore

LIMITS: Final = WriterLimits()


def relayed(its_id: str) -> bytes:
    """The headers that a relay gives the fact with this id."""
    stream, _, version = its_id.rpartition("@")
    return (
        f"NATS/1.0\r\n{MSG_ID}: {its_id}\r\n{STREAM}: {stream}\r\n{VERSION}: {version}\r\n{POSITION}: 1\r\n\r\n"
    ).encode()


@dataclass
class Desk:
    """A writer of purses, and the calls that tests make."""

    store: WatchedStore
    published: list[Fact] = field(default_factory=list)
    """The facts of all commits, as the writer reported them to the followers of the log."""
    aggregates: Aggregates = field(default_factory=lambda: AGGREGATES)
    limits: WriterLimits = field(default_factory=WriterLimits)

    def __post_init__(self) -> None:
        self.writer = Writer(
            self.aggregates, REACTIONS, self.store, lambda: NOON, self.published.extend, limits=self.limits
        )

    async def charge(self, *users: str, amount: int = 1, key: str = "first") -> Answer:
        return await self.writer.execute(Charge(users, amount, key))

    def asking(self, *users: str, amount: int = 1, key: str = "first") -> asyncio.Task[Answer]:
        return asyncio.create_task(self.charge(*users, amount=amount, key=key))

    def deliver(self, fact: Fact, acknowledger: Acknowledgements, number: int = 1, key: str | None = None) -> Delivery:
        """Hand a fact over as it is published; its version and ack subject carry the number. `key`: another coupon."""
        if key is not None:
            fact = replace(fact, coupon_id=key)
        subject = f"{NAMES[type(fact)]}.{getattr(fact, fact.key_field)}"
        return self._deliver(f"{fact.stream}@{number}", encode(fact), acknowledger, number, subject)

    def deliver_body(self, body: bytes, acknowledger: Acknowledgements, number: int = 1, key: str = "c1") -> Delivery:
        return self._deliver(f"coupon-{key}@1", body, acknowledger, number, f"coupon.issued.{key}")

    def _deliver(self, its_id: str, body: bytes, acknowledger: Acknowledgements, number: int, subject: str) -> Delivery:
        delivery = Delivery(its_id, body, f"ack.{number}", StreamPosition(number, number), subject, relayed(its_id))
        self.writer.handle(delivery, acknowledger)
        return delivery

    async def balance(self, user: str) -> int:
        (state,) = await self.writer.read([f"account-{user}"])
        return int(state.balance)

    async def log(self) -> list[tuple[str, int]]:
        found = await self.store.select_notifications(0, 100_000)
        return [(stored.originator_id, stored.originator_version) for stored in found]


@contextlib.asynccontextmanager
async def working(
    store: WatchedStore, aggregates: Aggregates = AGGREGATES, limits: WriterLimits = LIMITS
) -> AsyncIterator[Desk]:
    """A writer of purses at work on `store`."""
    desk = Desk(store, aggregates=aggregates, limits=limits)
    run = asyncio.create_task(desk.writer.run())
    try:
        yield desk
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


class Gate:
    """Appends that wait at a gate, so that a test can look around during a commit."""

    def __init__(self, store: WatchedStore) -> None:
        self._store = store
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        store.insert = self._insert

    async def _insert(self, records: Sequence[Record]) -> None:
        self.reached.set()
        await self.opened.wait()
        await self._store.inner.insert_events(records)
