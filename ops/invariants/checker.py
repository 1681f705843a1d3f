"""The checker: it takes one fact after another, and reports in the end what is wrong with them."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Final, NamedTuple, Protocol

import msgspec

from contracts import (
    Fact,
    Order,
    OrderCanceled,
    OrderConfirmed,
    OrderCreatedPending,
    PointCharged,
    ProductStockAdded,
    ProductStockReturned,
    SagaFact,
)
from contracts.wire import FACTS, NAMES, decode, said_by
from ops.invariants.copies import Causes, Copies, LoggedFacts, Versions
from ops.invariants.coupons import CouponsInvariant
from ops.invariants.courses import TURNS, Course, Courses
from ops.invariants.findings import Entry, Finding, Findings
from ops.invariants.live import Live
from ops.invariants.memory import InProcess, Memory
from ops.invariants.orders import Chain, EndsInvariant, OneOrderInvariant, StepsInvariant, UndosInvariant
from ops.invariants.points import PointsInvariant
from ops.invariants.stock import StockInvariant

BOUND: Final = timedelta(minutes=1)
"""How long after its deadline an order may end while the system is running."""

BY_CLIENT: Final = frozenset(fact for fact in NAMES if fact.by_client)
"""Facts that may have no cause. Of the cancels only the customer's has none."""


class LogEntry(NamedTuple):
    """One fact of a service's log."""

    position: int
    stream: str
    version: int
    body: bytes


class Message(NamedTuple):
    """One message of the stream."""

    sequence: int
    fact_id: str
    body: bytes


class Tally(NamedTuple):
    """The counts of what was checked.

    `orders`: by status CONFIRMED or PENDING, or by the reason of the cancel. `subjects`: by kind.
    """

    orders: dict[str, int]
    subjects: dict[str, int]


class Book(Protocol):
    """Checks the facts of one service. `course` is the course of the order that a saga fact is about."""

    def said(self, entry: Entry, fact: Fact, course: Course | None) -> None: ...


class _Named(msgspec.Struct):
    """The fields that are read of a fact of newer code."""

    type: str
    at: datetime


_named = msgspec.json.Decoder(_Named)


class Checker:
    """Takes the logs, each in its order, and the stream; then `finish` returns the findings.

    The logs may come one after another. If they come interleaved as they happened, and with the stream, fewer orders
    are in flight at a time. The memory's tables keep everything that ever was: some tens of bytes for each fact, order,
    product, customer, coupon and key.

    `quiet`: no fact is on its way any more, so everything must have ended and be in both copies. Otherwise the facts
    and messages must be a consistent cut: with every fact its cause, and with every message its record.
    """

    def __init__(
        self, *, quiet: bool, now: datetime | None = None, bound: timedelta = BOUND, memory: Memory | None = None
    ) -> None:
        """`bound`: when not quiet, an order is judged as if all were quiet once its last fact is `bound` older than
        `now`. An order that is open `bound` beyond its deadline is then a finding; with `now` None it is not.

        `memory` may contain an earlier part of history, in which nothing was found.
        """
        self._quiet = quiet
        self._now = now
        self._bound = bound
        memory = memory or InProcess()
        self._findings = findings = Findings()
        self._courses = Courses(memory)
        self.facts = facts = LoggedFacts(memory)
        self._stock = StockInvariant(findings, memory)
        self._points = PointsInvariant(findings, memory)
        self._coupons = CouponsInvariant(findings, memory)
        self._books: Mapping[str, Book] = {"product": self._stock, "point": self._points, "coupon": self._coupons}
        self._ends = EndsInvariant(findings, bound)
        self._steps = StepsInvariant(findings)
        self._undos = UndosInvariant(findings)
        self._versions = Versions(facts, findings, memory)
        self._causes = Causes(facts, findings)
        self._chain = Chain(findings)
        self._copies = Copies(facts, findings, memory)
        self._one_order = OneOrderInvariant(findings, memory)

    def log(self, service: str, position: int, stream: str, version: int, body: bytes) -> None:
        """The next fact of a service's log."""
        entry = Entry(service, position, stream, version)
        if not self._versions.logged(entry):
            return
        self._copies.logged(entry, body)
        self._causes.logged(entry)
        fact = self._read(entry, body)
        if fact is not None:
            self._said(entry, fact)

    def message(self, sequence: int, fact_id: str, body: bytes) -> None:
        """The next message of the stream; messages may repeat, and may come before their causes."""
        self._copies.streamed(sequence, fact_id, body)

    @property
    def awaited(self) -> Collection[str]:
        """Ids of causes that have not been fed yet: the cut must include them."""
        return self._causes.awaited.keys()

    def finish(self, live: Live | None = None, published: Mapping[str, int] | None = None) -> list[Finding]:
        """All findings, in the order in which history went wrong.

        `live`: the services' answers, if they were asked. `published`: by service, the position up to which the stream
        must have its log when not quiet.
        """
        self._causes.finish()
        self._chain.finish(self._courses)
        self._copies.finish(published or {}, quiet=self._quiet)
        self._ends.finish(self._courses, self._now, quiet=self._quiet)
        self._steps.finish(self._courses, self._is_quiet)
        self._stock.finish(self._courses, self._is_quiet)
        self._points.finish(self._courses, self._is_quiet)
        if live is not None:
            self._compare(live)
        return self._findings.all()

    def tally(self) -> Tally:
        """The counts of everything that the memory has."""
        orders = Counter(course.reason or course.status or "unknown" for course in self._courses.all())
        subjects = {"products": len(self._stock), "accounts": len(self._points), "coupons": len(self._coupons)}
        return Tally(dict(orders), {**subjects, "orders": orders.total()})

    def _is_quiet(self, course: Course) -> bool:
        if self._quiet or self._now is None or course.touched is None:
            return self._quiet
        return course.touched + self._bound < self._now

    def _read(self, entry: Entry, body: bytes) -> Fact | None:
        try:
            fact = decode(body)
        except msgspec.DecodeError as error:
            if not _is_of_newer_code(body):
                self._findings.add(7, entry, f"is not a fact: {error}")
            return None
        name = NAMES[type(fact)]
        if fact.stream != entry.stream or said_by(name) != entry.service:
            self._findings.add(7, entry, f"has a fact of another place: {name} of {fact.stream}")
            return None
        if fact.cause is not None:
            self._causes.named(entry, fact.cause)
        elif type(fact) not in BY_CLIENT or (isinstance(fact, OrderCanceled) and fact.reason != "customer-canceled"):
            self._findings.add(7, entry, f"names no cause: {name}")
        return fact

    def _said(self, entry: Entry, fact: Fact) -> None:
        course: Course | None = None
        if isinstance(fact, SagaFact):
            course = self._courses.get(fact.order_id)
            if course.touched is None or course.touched < fact.at:
                course.touched = fact.at
            self._one_order.said(entry, fact, course)
            self._turn(entry, fact, course)
            if isinstance(fact, OrderCreatedPending | OrderConfirmed | OrderCanceled):
                self._order(entry, fact, course)
        elif isinstance(fact, ProductStockReturned):
            self._undos.returned(entry, self._courses.look(fact.order_id).turns.get("product"))
        elif isinstance(fact, ProductStockAdded | PointCharged):
            self._one_order.used(entry, fact.idempotency_key)
        book = self._books.get(entry.service)
        if book is not None:
            book.said(entry, fact, course)
        if course is not None and isinstance(fact, SagaFact):
            self._courses.put(fact.order_id, course)

    def _turn(self, entry: Entry, fact: SagaFact, course: Course) -> None:
        if type(fact) not in TURNS:
            return
        step, turn = TURNS[type(fact)]
        before = course.turn(step, turn)
        self._steps.turned(entry, before, turn)
        self._undos.turned(entry, before, turn)
        if turn == "refused":
            course.refusal = course.refusal or getattr(fact, "reason", None)

    def _order(self, entry: Entry, fact: OrderCreatedPending | OrderConfirmed | OrderCanceled, course: Course) -> None:
        if isinstance(fact, OrderCreatedPending):
            if self._one_order.created(entry, course):
                self._ends.created(fact, course)
                self._claim(fact.order, 1)
        elif isinstance(fact, OrderConfirmed):
            if self._ends.confirmed(entry, course):
                self._steps.confirmed(entry, fact, course)
        elif self._ends.canceled(entry, fact, course):
            self._steps.canceled(entry, fact, course)
            self._claim(fact.order, -1)

    def _claim(self, order: Order, times: int) -> None:
        """An order that begins claims what it asks for; one that is canceled no longer does."""
        self._stock.claim(order, times)
        self._points.claim(order, times)

    def _compare(self, live: Live) -> None:
        """9. Folding from zero = live state."""
        for product_id, product in live.products.items():
            self._same(f"product {product_id}", self._stock.seen(product_id), product)
        for user_id, balance in live.balances.items():
            self._same(f"account {user_id}", self._points.seen(user_id), balance)
        for coupon_id, coupon in live.coupons.items():
            self._same(f"coupon {coupon_id}", self._coupons.seen(coupon_id), coupon)
        for order_id, order in live.orders.items():
            course = self._courses.look(order_id)
            self._same(f"order {order_id}", (course.status, course.reason), (order.status, order.reason))

    def _same(self, where: str, folded: object, answered: object) -> None:
        if folded != answered:
            self._findings.add(9, where, f"is answered as {answered}; its facts make it {folded}")


def check(
    logs: Mapping[str, Iterable[LogEntry]],
    stream: Iterable[Message],
    *,
    quiet: bool,
    now: datetime | None = None,
    bound: timedelta = BOUND,
    live: Live | None = None,
) -> list[Finding]:
    """The findings about these logs (by service) and this stream; see Checker."""
    checker = Checker(quiet=quiet, now=now, bound=bound)
    timed = [_timed(service, log) for service, log in logs.items()]
    for _, service, entry in heapq.merge(*timed, key=itemgetter(0)):
        checker.log(service, *entry)
    for message in stream:
        checker.message(*message)
    return checker.finish(live)


def _timed(service: str, log: Iterable[LogEntry]) -> Iterator[tuple[datetime, str, LogEntry]]:
    for entry in log:
        yield _at(entry.body), service, entry


def _at(body: bytes) -> datetime:
    """When a fact was recorded, roughly: it only decides which log is fed next."""
    try:
        return _named.decode(body).at
    except msgspec.DecodeError:
        return datetime.min.replace(tzinfo=UTC)


def _is_of_newer_code(body: bytes) -> bool:
    """Whether this is a fact of a type that this code does not know."""
    try:
        return _named.decode(body).type not in FACTS
    except msgspec.DecodeError:
        return False
