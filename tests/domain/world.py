"""All four services in memory, their real deciders and reactions, and a bus that delivers anything at any time.

Recording and publishing are one here: what happens between them repeats or delays deliveries, and that is what a bus of
this kind does anyway.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

import coupon_svc.reactions
import order_svc.reactions
import point_svc.reactions
import product_svc.reactions
from contracts import Fact, Line, Order, SagaFact
from contracts.wire import decode, encode, fact_id
from coupon_svc.domain import Issue
from infra.decider import Aggregates, Batch, Command, Head, Record, State, category
from infra.writer import Reactions
from order_svc import domain as ordering
from order_svc.ids import order_id
from point_svc.domain import Charge
from product_svc.domain.product import AddStock, Register
from tests.domain.spec import COUPON_SVC, ORDER_SVC, POINT_SVC, PRODUCT_SVC, decided
from tests.examples import PLACED_AT

SECOND = timedelta(seconds=1)
MOST_DELIVERIES = 10_000
"""What no run needs to become quiet; a saga that goes round in circles does."""


class Said(NamedTuple):
    """One recorded, and thereby published, fact."""

    fact_id: str
    name: str
    fact: Fact

    @property
    def order_id(self) -> str:
        """Empty for facts that are about no order."""
        return self.fact.order_id if isinstance(self.fact, SagaFact) else ""


class Service:
    """A service without its process: heads, reactions, log."""

    def __init__(self, aggregates: Aggregates, reactions: Reactions) -> None:
        self.aggregates = aggregates
        self.reactions = reactions
        self.heads: dict[str, Head] = {}
        self.log: list[Record] = []

    def head(self, stream: str) -> Head:
        return self.heads.get(stream) or Head(0, self.aggregates[category(stream)].state())

    def decide(self, commands: Sequence[Command]) -> Batch:
        batch = Batch(
            self.aggregates, {stream: self.head(stream) for command in commands for stream in command.streams}
        )
        for command in commands:
            decided(batch, command)
        return batch

    def commit(self, batch: Batch) -> list[Said]:
        self.heads.update(batch.forks)
        self.log += batch.records
        return [
            Said(fact_id(record.originator_id, record.originator_version), record.topic, decode(record.state))
            for record in batch.records
        ]


class Delivery(NamedTuple):
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

    def __init__(self, wishes: Sequence[Wish]) -> None:
        self.ordering = Service(ORDER_SVC, order_svc.reactions.REACTIONS)
        self.products = Service(PRODUCT_SVC, product_svc.reactions.REACTIONS)
        self.points = Service(POINT_SVC, point_svc.reactions.REACTIONS)
        self.coupons = Service(COUPON_SVC, coupon_svc.reactions.REACTIONS)
        self.services = (self.ordering, self.products, self.points, self.coupons)
        self.now = PLACED_AT
        self.wishes = wishes
        self.said: list[Said] = []
        self.waiting: list[Delivery] = []
        self.delivered: list[Delivery] = []

    # What may happen --------------------------------------------------------------------------------------------------

    def deliver(self, pick: int) -> None:
        """Any one of the deliveries that are due, whatever came before it."""
        if self.waiting:
            self._hear([self.waiting.pop(pick % len(self.waiting))])

    def deliver_together(self, pick: int) -> None:
        """Several deliveries to one service in one batch, the newest first."""
        if self.waiting:
            to = self.waiting[pick % len(self.waiting)].to
            together = [delivery for delivery in self.waiting if delivery.to is to][-4:]
            self.waiting = [delivery for delivery in self.waiting if delivery not in together]
            self._hear(together[::-1])

    def deliver_again(self, pick: int) -> None:
        """A duplicate of something heard before, however long ago."""
        if self.delivered:
            self._hear([self.delivered[pick % len(self.delivered)]])

    def crash(self, pick: int) -> None:
        """A batch that is decided and never committed; what it heard is still due."""
        if self.waiting:
            to, said = self.waiting[pick % len(self.waiting)]
            to.decide([to.reactions[type(said.fact)](said.fact, self.now, said.fact_id)])

    def place(self, pick: int) -> None:
        """A customer places an order, or asks again with the same key."""
        self._ask(self.ordering, self._place(pick % len(self.wishes)))

    def cancel(self, pick: int) -> None:
        """A customer wants an order no longer, if he has placed it."""
        number = pick % len(self.wishes)
        if self.status(number) is not None:
            cancel = ordering.Cancel(self.order_id(number), self.wishes[number].user_id, self.now)
            self._ask(self.ordering, cancel)

    def wait(self, pick: int) -> None:
        """Time goes by, and with it the deadlines of orders that are still open."""
        self.now += pick % 30 * SECOND
        for number in range(len(self.wishes)):
            order = self.order_id(number)
            self._ask(self.ordering, ordering.Expire(order, self.now, fact_id(f"order-{order}", 1)))

    # What the shop does -----------------------------------------------------------------------------------------------

    def register(self, product_id: str, price: int, stock: int) -> None:
        self._ask(self.products, Register(product_id, product_id, price, stock, self.now))

    def add_stock(self, product_id: str, quantity: int, key: str) -> None:
        self._ask(self.products, AddStock(product_id, quantity, key, self.now))

    def charge(self, user_id: str, amount: int, key: str) -> None:
        self._ask(self.points, Charge(user_id, amount, key, self.now))

    def issue(self, coupon_id: str, user_id: str, discount: int, expires_at: datetime) -> None:
        self._ask(self.coupons, Issue(coupon_id, user_id, discount, expires_at, self.now))

    # How it ends ------------------------------------------------------------------------------------------------------

    def place_the_rest(self) -> None:
        for number in range(len(self.wishes)):
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

    def order_id(self, number: int) -> str:
        return order_id(self.wishes[number].user_id, f"key-{number}")

    def state(self, service: Service, stream: str) -> State:
        return service.head(stream).state

    def status(self, number: int) -> ordering.Status | None:
        state: ordering.State = self.state(self.ordering, f"order-{self.order_id(number)}")
        return state.status

    # ------------------------------------------------------------------------------------------------------------------

    def _place(self, number: int) -> ordering.Place:
        wish = self.wishes[number]
        order = Order(wish.user_id, wish.lines, wish.points, wish.coupon_id, self.now)
        return ordering.Place(self.order_id(number), order, self.now + wish.patience, self.now)

    def _hear(self, deliveries: Sequence[Delivery]) -> None:
        to = deliveries[0].to
        commands = [to.reactions[type(said.fact)](said.fact, self.now, said.fact_id) for _, said in deliveries]
        self.delivered += deliveries
        self._publish(to.commit(to.decide(commands)))

    def _ask(self, service: Service, command: Command) -> None:
        self._publish(service.commit(service.decide([command])))

    def _publish(self, said: Sequence[Said]) -> None:
        self.now += SECOND
        self.said += said
        self.waiting += [
            Delivery(service, one) for one in said for service in self.services if type(one.fact) in service.reactions
        ]


def folded(service: Service) -> dict[str, tuple[int, bytes]]:
    """The heads of a service, folded from its log alone."""
    heads: dict[str, Head] = {}
    for record in service.log:
        aggregate = service.aggregates[category(record.originator_id)]
        head = heads.setdefault(record.originator_id, Head(0, aggregate.state()))
        fact = decode(record.state)
        assert encode(fact) == record.state
        aggregate.evolve(head.state, fact)
        head.version = record.originator_version
    return live(heads)


def live(heads: dict[str, Head]) -> dict[str, tuple[int, bytes]]:
    return {stream: (head.version, msgspec.json.encode(head.state)) for stream, head in heads.items()}
