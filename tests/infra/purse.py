"""A minimal service for tests of the core: purses, charged once per key, one or several together."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from eventsourcing.popo import POPOAggregateRecorder, POPOApplicationRecorder
from msgspec import Struct, field

from contracts import CouponIssued, Fact, PointDeposited
from infra.core.decider import Aggregate
from infra.core.messages import Acknowledger, Delivery
from infra.core.writer import Reactions
from infra.store.event_store import EventStore
from infra.store.records import Notification, Record, StreamHistory
from tests.infra.store.recorder_store import RecorderStore

UNLUCKY = 13

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Charge(Struct, frozen=True):
    """Put `amount` into each of these users' purses. 0 is refused; UNLUCKY is a bug that evolve meets."""

    says: ClassVar = (PointDeposited,)

    users: tuple[str, ...]
    amount: int = 1
    key: str = "first"
    at: datetime = NOON
    cause: str | None = None

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(f"account-{user}" for user in self.users)


class NothingToCharge(Exception):
    """A charge of 0 is refused."""


class Purse(Struct):
    balance: int = 0
    keys: set[str] = field(default_factory=set)


def decide(command: Charge, *purses: Purse) -> list[Fact]:
    if command.amount == 0:
        raise NothingToCharge
    return [
        PointDeposited(
            at=command.at, cause=command.cause, user_id=user, points=command.amount, idempotency_key=command.key
        )
        for user, purse in zip(command.users, purses, strict=True)
        if command.key not in purse.keys
    ]


def evolve(state: Purse, fact: PointDeposited) -> None:
    if fact.points == UNLUCKY:
        raise ValueError("no purse takes this amount")
    state.balance += fact.points
    state.keys.add(fact.idempotency_key)


AGGREGATES = {"account": Aggregate(Purse, decide, evolve)}


def react(fact: CouponIssued, now: datetime, fact_id: str) -> Charge:
    """A user who gets a coupon gets its discount in points, too."""
    return Charge((fact.user_id,), fact.discount, fact.coupon_id, now, fact_id)


REACTIONS: Reactions = {CouponIssued: react}


def issued(user: str, discount: int = 1, coupon: str = "c1") -> CouponIssued:
    return CouponIssued(at=NOON, coupon_id=coupon, user_id=user, discount=discount, expires_at=NOON)


class Acknowledgements:
    """An acknowledger that remembers what was reported to it."""

    def __init__(self, name: str = "purse") -> None:
        self.name = self.durable = name
        self.closed = False
        self.acknowledged: list[Delivery] = []
        self.errors: list[Exception] = []
        self.rejections: list[tuple[Delivery, Exception]] = []
        self.waiting_keys: set[str] = set()
        """Keys whose deliveries have to wait."""
        self.deferred: list[Delivery] = []
        self.news = asyncio.Event()

    def defers(self, delivery: Delivery) -> bool:
        if delivery.key not in self.waiting_keys:
            return False
        self.deferred.append(delivery)
        return True

    def rejected(self, delivery: Delivery, error: Exception) -> None:
        self.waiting_keys.add(delivery.key)
        self.rejections.append((delivery, error))
        self.news.set()

    def handled(self, delivery: Delivery) -> None:
        self.acknowledged.append(delivery)
        self.news.set()

    def failed(self, error: Exception) -> None:
        self.closed = True
        self.errors.append(error)
        self.news.set()


_: type[Acknowledger] = Acknowledgements

Insert = Callable[[Sequence[Record]], Awaitable[None]]


class WatchedStore:
    """The library's in-memory recorders behind the port; records the calls, and lets a test replace them."""

    has_moved = False
    place = "memory"

    def __init__(self, store: EventStore | None = None) -> None:
        self.inner: EventStore = store or RecorderStore(POPOApplicationRecorder(), POPOAggregateRecorder())
        self.appends: list[list[str]] = []
        """The streams of the records of each append."""
        self.selected: list[list[str]] = []
        """The streams of each select."""
        self.insert: Insert = self.inner.insert_events
        """Does an append; a test may replace it."""
        self.before_select: Callable[[], Awaitable[None]] | None = None
        self.save: Insert = self.inner.insert_snapshots
        """Saves snapshots; a test may replace it."""

    async def insert_events(self, records: Sequence[Record]) -> None:
        self.appends.append([record.originator_id for record in records])
        await self.insert(records)

    async def select_streams(
        self, streams: Collection[str], snapshot_topics: Collection[str]
    ) -> dict[str, StreamHistory]:
        self.selected.append(sorted(streams))
        found = await self.inner.select_streams(streams, snapshot_topics)
        if self.before_select is not None:
            await self.before_select()
        return found

    async def insert_snapshots(self, snapshots: Sequence[Record]) -> None:
        await self.save(snapshots)

    async def select_notifications(self, after: int, limit: int, topics: Collection[str] = ()) -> list[Notification]:
        return await self.inner.select_notifications(after, limit, topics)

    async def max_notification_id(self) -> int:
        return await self.inner.max_notification_id()

    async def check(self) -> None:
        await self.inner.max_notification_id()

    def close(self) -> None:
        if isinstance(self.inner, RecorderStore):
            self.inner.close()


def balances(states: Sequence[Any]) -> list[int]:
    return [state.balance for state in states]
