"""The invariants of each order: it ends once, its steps fit its end, and all its facts carry the same order."""

from datetime import datetime, timedelta

from contracts import BY_CUSTOMER, OrderCanceled, OrderConfirmed, OrderCreatedPending, SagaFact
from ops.invariants.balances import IsQuiet
from ops.invariants.courses import Course, Courses, Turn
from ops.invariants.findings import Entry, Findings
from ops.invariants.memory import Memory


class EndsInvariant:
    """Checks invariant 4: once faults stop, every accepted order reaches exactly one first end, in time.

    When quiet, each pending order is a finding; otherwise one that is pending at `now` more than `bound` after its
    deadline, and none without `now`. An order that ended late is none. A confirmed order may later be canceled once, by
    the customer.
    """

    def __init__(self, findings: Findings, bound: timedelta) -> None:
        self._findings = findings
        self._bound = bound

    def created(self, fact: OrderCreatedPending, course: Course) -> None:
        """Note that the order is pending until its deadline. Call it only for an order's first acceptance."""
        course.status = "PENDING"
        course.deadline = fact.deadline

    def confirmed(self, entry: Entry, course: Course) -> bool:
        """Judge a confirmation. If the order is pending, note in the course that it is confirmed and return True.

        Otherwise return False, with a finding.
        """
        if course.status != "PENDING":
            self._findings.add(4, entry, f"confirms an order that is {course.status or 'not accepted'}")
            return False
        course.status, course.deadline, course.confirmed = "CONFIRMED", None, True
        return True

    def canceled(self, entry: Entry, fact: OrderCanceled, course: Course) -> bool:
        """Judge a cancel. If the order is pending or confirmed, note in the course that it is canceled and return True.

        Otherwise return False, with a finding. A cancel for the deadline before the deadline is a finding, too, and so
        is one of a confirmed order that is not by the customer; the order is canceled all the same.
        """
        if course.status not in ("PENDING", "CONFIRMED"):
            self._findings.add(4, entry, f"cancels an order that is {course.status or 'not accepted'}")
            return False
        if course.status == "CONFIRMED" and fact.reason not in BY_CUSTOMER:
            self._findings.add(4, entry, f"cancels a confirmed order: {fact.reason}")
        if fact.reason == "deadline-exceeded" and course.deadline is not None and fact.at < course.deadline:
            self._findings.add(4, entry, f"cancels an order before its deadline, {course.deadline}")
        course.status, course.deadline, course.reason = "CANCELED", None, fact.reason
        return True

    def finish(self, courses: Courses, now: datetime | None, *, quiet: bool) -> None:
        for order_id, course in courses.in_flight.items():
            if course.deadline is None:
                continue
            if quiet:
                self._findings.add(4, f"order {order_id}", "never ended")
            elif now is not None and now > course.deadline + self._bound:
                self._findings.add(4, f"order {order_id}", f"has not ended; its deadline was {course.deadline}")


class StepsInvariant:
    """Checks invariant 5: what an order's steps did fits its end.

    CONFIRMED ⇔ all awaited steps done and none undone; CANCELED and quiet ⇒ every done step undone exactly once.

    An end repeats the amounts of the steps; a confirmation's amount_due = total - points - discount, not below 0. A
    step's refusal, the deadline or the customer cancels an order. After a cancel by the deadline or the customer each
    awaited step is undone, fenced or refused. After a cancel for a refusal, no awaited step after the refusing one has
    a turn. A step that follows the confirmation need not take part; if it was done, a cancel must undo it.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def turned(self, entry: Entry, before: Turn | None, turn: Turn) -> None:
        """Judge a step's turn: a second answer (done or refused) and a second undo are findings.

        `before`: the step's turn before; None: it had none.
        """
        if turn == "undone" and before == "undone":
            self._findings.add(5, entry, "undoes a step that is undone already")
        elif turn in ("done", "refused") and before in ("done", "refused", "undone"):
            self._findings.add(5, entry, f"answers an order whose step is {before} already")

    def confirmed(self, entry: Entry, fact: OrderConfirmed, course: Course) -> None:
        due = fact.total - fact.points - fact.discount
        if fact.amount_due != due or due < 0:
            self._findings.add(5, entry, f"has amount_due {fact.amount_due}; total - points - discount is {due}")
        if fact.points != fact.order.points:
            self._findings.add(5, entry, f"has {fact.points} points; the order was to use {fact.order.points}")
        if not course.agrees_on_discount(fact.discount):
            self._findings.add(5, entry, f"has another discount than coupon.used: {fact.discount}")
        if not course.agrees_on_prices(fact.unit_prices, fact.total):
            self._findings.add(5, entry, "has other prices than the steps")

    def canceled(self, entry: Entry, fact: OrderCanceled, course: Course) -> None:
        if fact.discount is not None and not course.agrees_on_discount(fact.discount):
            self._findings.add(5, entry, f"has another discount than coupon.used: {fact.discount}")
        priced = fact.unit_prices is not None and fact.total is not None
        if priced and not course.agrees_on_prices(fact.unit_prices, fact.total):
            self._findings.add(5, entry, "has other prices than the steps")

    def finish(self, courses: Courses, is_quiet: IsQuiet) -> None:
        for order_id, course in courses.in_flight.items():
            for what in course.unfit_steps(quiet=is_quiet(course)):
                self._findings.add(5, f"order {order_id}", what)


class UndosInvariant:
    """Checks invariant 6: nothing undone that was not done.

    That a fence moves nothing is checked by StockInvariant, PointsInvariant and CouponsInvariant. An undo that comes
    before its action is recorded as a fence; an action after its fence records nothing.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def turned(self, entry: Entry, before: Turn | None, turn: Turn) -> None:
        if turn == "undone" and before not in ("done", "undone"):
            self._findings.add(6, entry, f"undoes a step that is {before or 'not done'}")
        elif turn == "fenced" and before is not None:
            self._findings.add(6, entry, f"fences a step that is {before}")
        elif turn in ("done", "refused") and before == "fenced":
            self._findings.add(6, entry, "answers an order behind its fence")

    def returned(self, entry: Entry, course: Course) -> None:
        """Judge a fact of the ledger that gives back stock, points or a coupon which an order took.

        It is a finding, unless the order's step of that service is done and not undone yet. `course`: the order's so
        far.
        """
        before = course.turns.get(entry.service)
        if before != "done":
            what = f"gives back what an order took whose {entry.service} step is {before or 'not done'}"
            self._findings.add(6, entry, what)


class Chain:
    """Checks invariant 7, causes exist: a step answers only an accepted order whose earlier steps were done.

    A fence needs only the accepted order. See Course.broken_chain.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def finish(self, courses: Courses) -> None:
        for order_id, course in courses.in_flight.items():
            for what in course.broken_chain():
                self._findings.add(7, f"order {order_id}", what)


class OneOrderInvariant:
    """Checks invariant 10: one idempotency key → one order.

    An order id is made from a customer's key. An id is accepted once, and all its facts carry the order as it was
    accepted. In each account and for each product, a key of a charge or of added stock counts once, too.
    """

    def __init__(self, findings: Findings, memory: Memory) -> None:
        self._findings = findings
        self._keys = memory.many("keys", int)

    def created(self, entry: Entry, course: Course) -> bool:
        """Judge the acceptance of an order. Returns True if by the course, which stays as it is, it is the first.

        Otherwise returns False, with a finding.
        """
        if course.status is not None:
            self._findings.add(10, entry, "accepts an order that was accepted before")
        return course.status is None

    def said(self, entry: Entry, fact: SagaFact, course: Course) -> None:
        if not course.agrees_on_order(fact.order):
            self._findings.add(10, entry, "carries another order than the other facts of its id")

    def used(self, entry: Entry, owner: str, key: str | None) -> None:
        """Judge and remember the key of a charge or of added stock: its repeat in one account or product is a finding.

        `owner`: the stream of the account or product. Null is the key of the stock that a product was registered with,
        so it may come once.
        """
        place = owner if key is None else f"{owner} {key}"
        if self._keys.get(place) is not None:
            self._findings.add(10, entry, f"repeats an idempotency key: {key}")
        self._keys[place] = entry.version
