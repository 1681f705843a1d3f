"""A shop on paper: the services' own deciders and reactions, without processes, broker or clock; and its history.

Messages lie in each service's inbox until they are delivered, in the order that a scene wants.
"""

import copy
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

import order_svc.domain
from contracts import Fact, Line, Order
from contracts.wire import FACTS, NAMES, decode, encode, fact_id, said_by
from coupon_svc.domain import coupon
from infra.core.decider import Command
from ops.invariants import LogEntry, Message
from point_svc.domain import charge
from product_svc.domain import product
from tests.domain.spec import SERVICES
from tests.domain.world import Service

OPENING: Final = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DEADLINE: Final = timedelta(seconds=30)
MOMENT: Final = timedelta(milliseconds=1)


class History:
    """Logs and stream, and ways to damage them."""

    def __init__(self) -> None:
        self.logs: dict[str, list[LogEntry]] = {name: [] for name in SERVICES}
        self.stream: list[Message] = []
        self.recorded: list[str] = []
        """Fact ids in the order in which they were recorded."""

    def until(self, end: int) -> "History":
        """This history when it had `end` recorded facts."""
        known = set(self.recorded[:end])
        cut = History()
        cut.stream = [message for message in self.stream if message.fact_id in known]
        cut.logs = {
            name: [entry for entry in log if fact_id(entry.stream, entry.version) in known]
            for name, log in self.logs.items()
        }
        return cut

    def copy(self) -> "History":
        return copy.deepcopy(self)

    def id(self, name: str, order_id: str) -> str:
        """The first fact of this name about this order."""
        return next(
            fact_id(entry.stream, entry.version)
            for entry in self.logs[said_by(name)]
            if _is(entry.body, name, order_id)
        )

    def fact(self, its_id: str) -> Any:
        return next(decode(message.body) for message in self.stream if message.fact_id == its_id)

    def record(self, fact: Fact, body: bytes | None = None) -> None:
        """Put a fact at the end of its service's log and of the stream; with this body, if one is given."""
        stream, body = fact.stream, body or encode(fact)
        log = self.logs[said_by(NAMES[type(fact)])]
        version = 1 + max((entry.version for entry in log if entry.stream == stream), default=0)
        log.append(LogEntry(1 + (log[-1].position if log else 0), stream, version, body))
        self.recorded.append(fact_id(stream, version))
        self.publish(fact_id(stream, version), body)

    def publish(self, its_id: str, body: bytes) -> None:
        """Put the fact at the end of the stream alone."""
        self.stream.append(Message(1 + (self.stream[-1].sequence if self.stream else 0), its_id, body))

    def unlog(self, its_id: str) -> None:
        for name, log in self.logs.items():
            self.logs[name] = [entry for entry in log if fact_id(entry.stream, entry.version) != its_id]

    def unpublish(self, its_id: str) -> None:
        self.stream = [message for message in self.stream if message.fact_id != its_id]

    def erase(self, its_id: str) -> None:
        """Remove a fact from both copies of history."""
        self.unlog(its_id)
        self.unpublish(its_id)

    def rewrite(self, its_id: str, **changes: Any) -> None:
        """Change fields of a fact in both copies."""
        self.replace(its_id, msgspec.structs.replace(self.fact(its_id), **changes))

    def replace(self, its_id: str, fact: Fact) -> None:
        """Put another fact in the place of this one, in both copies."""
        self.replace_logged(its_id, fact)
        self.stream = [
            message._replace(body=encode(fact)) if message.fact_id == its_id else message for message in self.stream
        ]

    def replace_logged(self, its_id: str, fact: Fact) -> None:
        """Put another fact in the place of this one, in the log alone."""
        for name, log in self.logs.items():
            self.logs[name] = [
                entry._replace(body=encode(fact)) if fact_id(entry.stream, entry.version) == its_id else entry
                for entry in log
            ]


class PaperShop:
    def __init__(self) -> None:
        self.history = History()
        self.now = OPENING
        self._services = {name: Service(service.aggregates, service.reactions) for name, service in SERVICES.items()}
        self._inboxes: dict[str, deque[tuple[str, Fact]]] = {name: deque() for name in SERVICES}

    # What clients ask -------------------------------------------------------------------------------------------------

    def register(self, product_id: str, price: int, stock: int) -> None:
        self.ask("product", product.Register(product_id, product_id.title(), price, stock, at=self.now))

    def charge(self, user_id: str, amount: int) -> None:
        self.ask("point", charge.Charge(user_id, amount, "first", at=self.now))

    def issue(self, coupon_id: str, user_id: str, discount: int, *, valid: timedelta = timedelta(days=30)) -> None:
        command = coupon.Issue(coupon_id, user_id, discount, OPENING + valid, at=self.now)
        self.ask("coupon", command)

    def place(
        self, order_id: str, *lines: tuple[str, int], user: str = "ann", points: int = 0, coupon: str | None = None
    ) -> None:
        order = Order(user, tuple(Line(*line) for line in lines), points, coupon, self.now)
        self.ask("order", order_svc.domain.Place(order_id, order, self.now + DEADLINE, at=self.now))

    def cancel(self, order_id: str, user: str = "ann") -> None:
        self.ask("order", order_svc.domain.Cancel(order_id, user, at=self.now))

    def expire(self, order_id: str) -> None:
        """Let time pass until the order's deadline, and cancel the order."""
        self.now += DEADLINE
        self.ask("order", order_svc.domain.Expire(order_id, at=self.now, cause=fact_id(f"order-{order_id}", 1)))

    # What the services do ---------------------------------------------------------------------------------------------

    def ask(self, name: str, command: Command) -> None:
        """Decide the command, record its facts, and publish them."""
        service = self._services[name]
        self.now += MOMENT
        for said in service.commit(service.decide([command])):
            self.history.record(said.fact)
            for hearer, inbox in self._inboxes.items():
                if type(said.fact) in self._services[hearer].reactions:
                    inbox.append((said.fact_id, said.fact))

    def deliver(self, *only: str, newest_first: bool = False) -> None:
        """Deliver all messages in the inboxes (of these services only, if any are named), and those that follow from
        them.
        """
        names = only or SERVICES
        while any(self._inboxes[name] for name in names):
            for name in names:
                inbox = self._inboxes[name]
                while inbox:
                    its_id, fact = inbox.pop() if newest_first else inbox.popleft()
                    self.ask(name, self._services[name].reactions[type(fact)](fact, self.now, its_id))


def honest_history() -> History:
    """A day on which everything happens, in and out of order, and nothing fails. Orders are named after their fate."""
    shop = PaperShop()
    shop.register("mug", price=10_000, stock=10)
    shop.register("tea", price=3_000, stock=20)
    shop.charge("ann", 5_000)
    shop.charge("bob", 100)
    shop.charge("cleo", 1_000)
    shop.issue("spring", "ann", 300)
    shop.issue("summer", "ann", 20_000)
    shop.issue("autumn", "cleo", 300)
    shop.issue("winter", "ann", 300, valid=timedelta(0))

    shop.place("confirmed", ("mug", 2), ("tea", 1), points=500, coupon="spring")
    shop.place("plain", ("tea", 2), user="bob")
    shop.place("no-stock", ("tea", 1), ("mug", 9))
    shop.place("no-product", ("cup", 1))
    shop.place("no-points", ("tea", 1), user="bob", points=200)
    shop.place("no-coupon", ("mug", 1), ("tea", 1), points=10, coupon="winter")
    shop.place("used-coupon", ("mug", 1), points=10, coupon="spring")
    shop.place("returned", ("tea", 1), points=700, coupon="summer")
    shop.place("regretted", ("tea", 1), user="cleo", points=100, coupon="autumn")
    shop.deliver()
    shop.cancel("returned")
    shop.cancel("regretted", user="cleo")
    shop.deliver()
    shop.place("capped", ("tea", 1), points=1_000, coupon="summer")
    shop.deliver()

    shop.place("fenced", ("mug", 1), points=100)
    shop.expire("fenced")
    shop.deliver(newest_first=True)

    shop.place("stuck", ("mug", 1), user="cleo", points=100)
    shop.deliver("product", "point")
    shop.expire("stuck")
    shop.deliver("product", "point")
    shop.deliver("coupon", newest_first=True)
    shop.deliver()

    shop.place("withdrawn", ("mug", 1))
    shop.cancel("withdrawn")
    shop.deliver()

    history = shop.history
    for repeated in history.stream[10:14]:  # beyond the duplicate window the stream may have a fact again
        history.publish(repeated.fact_id, repeated.body)
    _healed(history, history.id("product.reserved", "plain"), history.id("point.used", "plain"))
    return history


def _healed(history: History, cause: str, effect: str) -> None:
    """A stream that lost a message and was written again: the effect comes before its cause."""
    places = {message.fact_id: index for index, message in reversed(list(enumerate(history.stream)))}
    one, other = history.stream[places[cause]], history.stream[places[effect]]
    history.stream[places[cause]] = other._replace(sequence=one.sequence)
    history.stream[places[effect]] = one._replace(sequence=other.sequence)


def _is(body: bytes, name: str, order_id: str) -> bool:
    fact = decode(body)
    return isinstance(fact, FACTS[name]) and getattr(fact, "order_id", None) == order_id
