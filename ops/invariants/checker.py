"""The checker: it takes one fact or message after another, and returns the findings at the end."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from contracts import (
    BY_CUSTOMER,
    CouponReturned,
    Fact,
    Order,
    OrderCanceled,
    OrderConfirmed,
    OrderCreatedPending,
    PointCharged,
    PointCredited,
    ProductStockAdded,
    ProductStockReturned,
    SagaFact,
)
from contracts.fact import DECODE_ERRORS, time_of
from contracts.newer import OfNewerCode
from contracts.wire import NAMES, decode, said_by
from ops.invariants.copies import Causes, Copies, LoggedFacts, Versions
from ops.invariants.coupons import CouponsInvariant
from ops.invariants.courses import TURNS, Course, Courses
from ops.invariants.findings import Entry, Finding, Findings
from ops.invariants.live import Live
from ops.invariants.memory import InProcess, Memory
from ops.invariants.orders import Chain, EndsInvariant, OneOrderInvariant, StepsInvariant, UndosInvariant
from ops.invariants.points import PointsInvariant
from ops.invariants.stock import StockInvariant
from ops.invariants.unjudged import Unjudged, cause_of

BOUND: Final = timedelta(minutes=1)
"""How long after its deadline an order may end while the system is running, unless the caller names another time."""

BY_CLIENT: Final = frozenset(fact for fact in NAMES if fact.by_client)
"""The types of facts that may have no cause. An OrderCanceled may have none only if the customer canceled."""


class LogEntry(NamedTuple):
    """One fact of a service's log: the arguments of `Checker.log` after the service, in order. `body`: its JSON."""

    position: int
    stream: str
    version: int
    body: bytes


class Message(NamedTuple):
    """One message of EVENTS. `fact_id`: its fact's id, as the log has it; empty: none. `body`: the fact's JSON."""

    sequence: int
    fact_id: str
    body: bytes


class Tally(NamedTuple):
    """The counts of what was checked, an earlier part of history included.

    `orders`: status → number, by CONFIRMED, PENDING, the reason of a cancel, or `unknown` (never accepted). `subjects`:
    `products`, `accounts`, `coupons` and `orders` → number.
    """

    orders: dict[str, int]
    subjects: dict[str, int]


class Book(Protocol):
    """Checks the facts of one service, one after another, in log order. What is wrong becomes a finding.

    `fact` is one that this service says; mypy refuses a book in which one is missing. `course`: that of the order, if
    the fact is a SagaFact; else None.
    """

    def said(self, entry: Entry, fact: Any, course: Course | None) -> None: ...


class Checker:
    """Takes the facts of all logs, each log in its order, and the messages of EVENTS. `finish` returns the findings.

    The logs may come one after another. If logs and messages come interleaved as they happened, less is in flight at a
    time. The memory's tables keep everything that ever was: some tens of bytes for each fact, order, product, customer,
    coupon and key.

    `quiet`: no fact is on its way any more, so everything must have ended and be in both copies. Otherwise the facts
    and messages must be a consistent cut: with every fact its cause, and with every message its record.
    """

    def __init__(
        self, *, quiet: bool, now: datetime | None = None, bound: timedelta = BOUND, memory: Memory | None = None
    ) -> None:
        """Begin with an empty memory, in this process, or with `memory`: it may contain an earlier part of history.

        That part must have had no findings. When not quiet, an order is judged as if all were quiet once its last fact
        is more than `bound` older than `now`. An order that is pending at `now`, more than `bound` after its deadline,
        is then a finding. With `now` None neither is done. When quiet, `now` and `bound` have no effect: each pending
        order is a finding.
        """
        self._quiet = quiet
        self._now = now
        self._bound = bound
        memory = memory or InProcess()
        self.unjudged = Unjudged()
        self._findings = findings = Findings(self.unjudged, memory)
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
        self._causes = Causes(facts, findings, memory)
        self._chain = Chain(findings)
        self._copies = Copies(facts, findings, memory)
        self._one_order = OneOrderInvariant(findings, memory)

    def log(self, service: str, position: int, stream: str, version: int, body: bytes) -> None:
        """Take the next fact of a service's log. One that breaks an invariant, or cannot be read, becomes a finding.

        A fact of newer code is not a finding for that alone: `unjudged` counts it.
        """
        entry = Entry(service, position, stream, version)
        if not self._versions.logged(entry):
            return
        self._copies.logged(entry, body)
        self._causes.logged(entry)
        fact = self._read(entry, body)
        if fact is not None:
            self._findings.fact = fact
            self._said(entry, fact)
            self._findings.fact = None

    def message(self, sequence: int, fact_id: str, body: bytes) -> None:
        """Take the next message of EVENTS. Messages may repeat, and may come before their causes and their records."""
        self._copies.streamed(sequence, fact_id, body)

    @property
    def awaited(self) -> Collection[str]:
        """Ids of facts that other facts name as their cause and that have not been fed yet; a live view.

        The cut must include them.
        """
        return self._causes.awaited.keys()

    def finish(self, live: Live | None = None, published: Mapping[str, int] | None = None) -> list[Finding]:
        """Judge what can be judged only at the end. Returns the findings in the order in which they were made.

        Of an invariant with more than MOST_OF_A_KIND (100), one finding at the end counts the others. Call it once.

        `live`: the services' answers; None: they were not asked. `published`: service → the position up to which
        (inclusive) the stream must have the service's log when not quiet; a service that is missing there: 0.
        """
        self._causes.finish()
        self._chain.finish(self._courses)
        self._copies.finish(published or {}, quiet=self._quiet)
        self._ends.finish(self._courses, self._now, quiet=self._quiet)
        self._steps.finish(self._courses, self._is_quiet)
        self._stock.finish(self._courses, self._is_quiet)
        self._points.finish(self._courses, self._is_quiet)
        self._coupons.finish(self._courses, self._is_quiet)
        if live is not None:
            self._compare(live)
        return self._findings.all()

    def tally(self) -> Tally:
        """Count the orders and subjects that the memory has."""
        orders = Counter(course.reason or course.status or "unknown" for course in self._courses.all())
        subjects = {"products": len(self._stock), "accounts": len(self._points), "coupons": len(self._coupons)}
        return Tally(dict(orders), {**subjects, "orders": orders.total()})

    def _is_quiet(self, course: Course) -> bool:
        if self._quiet or self._now is None or course.touched is None:
            return self._quiet
        return course.touched + self._bound < self._now

    def _read(self, entry: Entry, body: bytes) -> Fact | None:
        newer = False
        try:
            fact = decode(body)
        except OfNewerCode as error:
            self.unjudged.take(entry, error, body)
            if error.fact is None:
                cause = cause_of(body)
                if cause is not None:
                    self._causes.named(entry, cause, newer=True)
                return None
            fact, newer = error.fact, True
        except msgspec.DecodeError as error:
            self._findings.add(7, entry, f"is not a fact: {error}")
            return None
        name = NAMES[type(fact)]
        if entry.stream not in (fact.stream, fact.earlier_stream) or said_by(name) != entry.service:
            self._findings.add(7, entry, f"has a fact of another place: {name} of {fact.stream}")
            return None
        if fact.cause is not None:
            self._causes.named(entry, fact.cause, newer=newer)
        elif not newer and (
            type(fact) not in BY_CLIENT or (isinstance(fact, OrderCanceled) and fact.reason not in BY_CUSTOMER)
        ):
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
        elif isinstance(fact, ProductStockReturned | PointCredited | CouponReturned):
            self._undos.returned(entry, self._courses.look(fact.order_id))
        elif isinstance(fact, ProductStockAdded | PointCharged):
            self._one_order.used(entry, fact.earlier_stream, fact.idempotency_key)
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
        """Add an order to what orders claim of stock and points (`times` 1), or take it off once canceled (-1)."""
        self._stock.claim(order, times)
        self._points.claim(order, times)

    def _compare(self, live: Live) -> None:
        """Check invariant 9, folding from zero = live state: an answer that differs from its facts is a finding.

        Of an order only status and reason are compared.
        """
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
    """Check whole histories in memory: `logs` by service, each in its order, and the stream. Returns the findings.

    The logs are fed in the order of time, then the stream. `live` is that of Checker.finish; the other arguments are
    those of Checker.
    """
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
    """Return roughly when a fact was recorded, for an unreadable body the earliest time there is.

    It only decides which log is fed next.
    """
    try:
        return time_of(body)
    except DECODE_ERRORS:
        return datetime.min.replace(tzinfo=UTC)
