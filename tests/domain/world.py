"""All services in memory, their real deciders and reactions, and a bus that delivers anything at any time.

Recording and publishing are one here: what happens between them repeats or delays deliveries, and that is what a bus of
this kind does anyway. What is delivered is the fact as it was decided; that it is what stands in the log is for
`invariants.check` to see.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from contracts import Fact, Line, Order, SagaFact
from contracts.wire import NAMES, decode, encode, fact_id
from coupon_svc.domain.coupon import Issue
from infra.core.decider import Aggregates, Batch, Command, StreamState, category
from infra.core.writer import Reactions
from infra.store.records import Record
from order_svc import domain as ordering
from order_svc.ids import order_id
from point_svc.domain.charge import Charge
from product_svc.domain.addition import AddStock
from product_svc.domain.product import Register
from tests.domain.spec import SERVICES, decided
from tests.examples import PLACED_AT

SECOND: Final = timedelta(seconds=1)
MOST_DELIVERIES: Final = 10_000
"""What no run needs to become quiet; a saga that goes round in circles does."""

PARTS: Final[tuple[tuple[Aggregates, Reactions], ...]] = tuple(
    (service.aggregates, service.reactions) for service in SERVICES.values()
)
READERS: Final[dict[type[Fact], tuple[int, ...]]] = {
    fact: tuple(n for n, (_, reactions) in enumerate(PARTS) if fact in reactions) for fact in NAMES
}
"""Who hears a fact: places in PARTS."""

id_of_order = cache(order_id)


class Said(Struct, frozen=True, gc=False):
    """One recorded, and thereby published, fact."""

    fact_id: str
    fact: Fact
    stream: str
    version: int

    @property
    def name(self) -> str:
        return NAMES[type(self.fact)]

    @property
    def order_id(self) -> str:
        """Empty for facts that are about no order."""
        return self.fact.order_id if isinstance(self.fact, SagaFact) else ""


EMPTY: Final = {
    name: StreamState(0, aggregate.state()) for aggregates, _ in PARTS for name, aggregate in aggregates.items()
}
"""By category. Shared, for nobody may write to heads that are seen."""


class StateCache(dict[str, StreamState]):
    """By stream, whether it has facts or not."""

    def __missing__(self, stream: str) -> StreamState:
        return EMPTY[category(stream)]


class Service:
    """A service without its process: heads, reactions, log. It may begin with what another one has recorded."""

    def __init__(self, aggregates: Aggregates, reactions: Reactions, begin: "Service | None" = None) -> None:
        self.aggregates = aggregates
        self.reactions = reactions
        self.heads: StateCache = StateCache(begin.heads if begin else {})
        self.log: list[Record] = begin.log.copy() if begin else []

    def decide(self, commands: Sequence[Command]) -> Batch:
        batch = Batch(self.aggregates, self.heads)
        for command in commands:
            decided(batch, command)
        return batch

    def commit(self, batch: Batch) -> list[Said]:
        self.heads.update(batch.forks)
        self.log += batch.records
        return [
            Said(fact_id(stream, version), fact, stream, version)
            for (stream, version, _, _), fact in zip(batch.records, batch.facts, strict=True)
        ]


class Delivery(Struct, frozen=True, gc=False):
    to: Service
    said: Said


class Wish(NamedTuple):
    """An order that a customer will place, once or more often, with a key of his own."""

    user_id: str
    lines: tuple[Line, ...]
    points: int
    coupon_id: str | None
    patience: timedelta
    """From acceptance to deadline."""


class World:
    """The shop, its clock, and what is on its way. Steps are methods taking `pick`, a number that chooses among what is
    possible; a step that is not possible does nothing."""

    def __init__(self, wishes: Sequence[Wish], begin: "World | None" = None) -> None:
        """It may begin with what was recorded in another one, where nothing is on its way."""
        self.services: list[Service] = [
            Service(aggregates, reactions, begin.services[n] if begin else None)
            for n, (aggregates, reactions) in enumerate(PARTS)
        ]
        by_name = dict(zip(SERVICES, self.services, strict=True))
        self.ordering, self.products = by_name["order"], by_name["product"]
        self.points, self.coupons = by_name["point"], by_name["coupon"]
        self.begin = begin
        self.now: datetime = begin.now if begin else PLACED_AT
        self.wishes = wishes
        self.order_ids = order_ids(wishes)
        self.said: list[Said] = begin.said.copy() if begin else []
        self.opened = len(self.said)
        """How much of it is from the beginning."""
        self.waiting: list[Delivery] = []
        self.delivered: list[Delivery] = []

    # What may happen --------------------------------------------------------------------------------------------------

    def deliver(self, pick: int) -> None:
        """Any one of the deliveries that are due, whatever came before it."""
        waiting = self.waiting
        if waiting:
            self._hear([waiting.pop(pick % len(waiting))])

    def deliver_together(self, pick: int) -> None:
        """Several deliveries to one service in one batch, the newest first."""
        if self.waiting:
            to = self.waiting[pick % len(self.waiting)].to
            places = [place for place, delivery in enumerate(self.waiting) if delivery.to is to][-4:]
            self._hear([self.waiting.pop(place) for place in reversed(places)])

    def deliver_again(self, pick: int) -> None:
        """A duplicate of something heard before, however long ago."""
        if self.delivered:
            self._hear([self.delivered[pick % len(self.delivered)]])

    def crash(self, pick: int) -> None:
        """A batch that is decided and never committed; what it heard is still due."""
        if self.waiting:
            due = self.waiting[pick % len(self.waiting)]
            due.to.decide([self._command(due)])

    def crash_recorded(self, pick: int) -> None:
        """A batch that is committed and never acknowledged: what it heard is still due."""
        if self.waiting:
            self._hear([self.waiting[pick % len(self.waiting)]])

    def place(self, pick: int) -> None:
        """A customer places an order, or asks again with the same key."""
        number = pick % len(self.wishes)
        wish = self.wishes[number]
        order = Order(wish.user_id, wish.lines, wish.points, wish.coupon_id, self.now)
        self._decide(
            self.ordering, [ordering.Place(self.order_ids[number], order, self.now + wish.patience, at=self.now)]
        )

    def cancel(self, pick: int) -> None:
        """A customer wants an order no longer, if he has placed it."""
        number = pick % len(self.wishes)
        if self.status(number) is not None:
            cancel = ordering.Cancel(self.order_ids[number], self.wishes[number].user_id, at=self.now)
            self._decide(self.ordering, [cancel])

    def wait(self, pick: int) -> None:
        """Time goes by, and with it the deadlines of orders that are still open."""
        self.now += pick % 30 * SECOND
        for number, order in enumerate(self.order_ids):
            if self.status(number) is not None:
                self._decide(self.ordering, [ordering.Expire(order, at=self.now, cause=fact_id(f"order-{order}", 1))])

    # What the shop does -----------------------------------------------------------------------------------------------

    def register(self, product_id: str, price: int, stock: int) -> None:
        self._decide(self.products, [Register(product_id, product_id, price, stock, at=self.now)])

    def add_stock(self, product_id: str, quantity: int, key: str) -> None:
        self._decide(self.products, [AddStock(product_id, quantity, key, at=self.now)])

    def charge(self, user_id: str, amount: int, key: str) -> None:
        self._decide(self.points, [Charge(user_id, amount, key, at=self.now)])

    def issue(self, coupon_id: str, user_id: str, discount: int, expires_at: datetime) -> None:
        self._decide(self.coupons, [Issue(coupon_id, user_id, discount, expires_at, at=self.now)])

    # How it ends ------------------------------------------------------------------------------------------------------

    def place_the_rest(self) -> None:
        for number in range(len(self.wishes)):
            if self.status(number) is None:
                self.place(number)

    def become_quiet(self, newest_first: bool) -> None:
        for _ in range(MOST_DELIVERIES):
            if not self.waiting:
                return
            self.deliver(-1 if newest_first else 0)
        raise AssertionError(f"not quiet after {MOST_DELIVERIES} deliveries")

    def deliver_everything_again(self) -> None:
        """In reverse, so that every undo is heard again before its action."""
        for delivery in reversed(self.delivered.copy()):
            self._hear([delivery])

    # What can be asked ------------------------------------------------------------------------------------------------

    def status(self, number: int) -> ordering.Status | None:
        state: ordering.State = self.ordering.heads[f"order-{self.order_ids[number]}"].state
        return state.status

    # ------------------------------------------------------------------------------------------------------------------

    def _hear(self, deliveries: Sequence[Delivery]) -> None:
        self.delivered += deliveries
        self._decide(deliveries[0].to, [self._command(delivery) for delivery in deliveries])

    def _command(self, delivery: Delivery) -> Command:
        said = delivery.said
        return delivery.to.reactions[type(said.fact)](said.fact, self.now, said.fact_id)

    def _decide(self, service: Service, commands: Sequence[Command]) -> None:
        """Decide, record and publish."""
        self.now += SECOND
        batch = service.decide(commands)
        if batch.records:
            said = service.commit(batch)
            self.said += said
            services, waiting = self.services, self.waiting
            for one in said:
                for reader in READERS[type(one.fact)]:
                    waiting.append(Delivery(services[reader], one))


def order_ids(wishes: Sequence[Wish]) -> list[str]:
    """One for each wish. A customer's keys are numbered, so that every other customer has the same."""
    placed: dict[str, int] = {}
    ids = []
    for wish in wishes:
        number = placed[wish.user_id] = placed.get(wish.user_id, 0) + 1
        ids.append(id_of_order(wish.user_id, f"key-{number}"))
    return ids


def folded(service: Service) -> dict[str, tuple[int, bytes]]:
    """The heads of a service, folded from its log alone."""
    heads: dict[str, StreamState] = {}
    for record in service.log:
        aggregate = service.aggregates[category(record.originator_id)]
        head = heads.setdefault(record.originator_id, StreamState(0, aggregate.state()))
        fact = decode(record.state)
        assert encode(fact) == record.state
        aggregate.evolve(head.state, fact)
        head.version = record.originator_version
    return live(heads)


def live(heads: dict[str, StreamState]) -> dict[str, tuple[int, bytes]]:
    return {stream: (head.version, msgspec.json.encode(head.state)) for stream, head in heads.items()}
