"""Points must add up: the sums come from the facts of accounts and orders, and not from the services' own fold.

An account's ledger moves the points, and the answer to the order or charge, which the log has after that, must say the
same. Where older code recorded the answer in the account's stream, the answer itself moves them.
"""

from collections import Counter
from typing import assert_never

from contracts import (
    Order,
    PointCharged,
    PointCredited,
    PointDebited,
    PointDeposited,
    PointRefunded,
    PointUsed,
    PointUseFailed,
    PointUseVoided,
)
from contracts.point import PointSays
from ops.invariants.balances import Balance, IsQuiet, unsettled
from ops.invariants.courses import Course, Courses
from ops.invariants.findings import Entry, Findings
from ops.invariants.memory import Memory


class PointsInvariant:
    """Checks invariant 2: points charged = balance + used by pending or confirmed orders; no balance is ever negative.

    An order uses the points that its customer named, and not more than it costs. A refund gives back the same points.
    """

    def __init__(self, findings: Findings, memory: Memory) -> None:
        self._findings = findings
        self._accounts = memory.many("accounts", Balance)
        self._moving = memory.few("moving_points", dict[str, int])
        """Order id → user id → points that came back (points taken are negative), by facts of the ledgers.

        Only while the answer to the order, which the log has after them, has not been fed.
        """
        self._depositing = memory.few("depositing", dict[str, int])
        """User id → idempotency key → points that were deposited, while the answer to the charge has not been fed."""

    def claim(self, order: Order, times: int) -> None:
        if order.points:
            self._account(order.user_id).claimed += times * order.points

    def __len__(self) -> int:
        return len(self._accounts)

    def said(self, entry: Entry, fact: PointSays, course: Course | None) -> None:
        match fact:
            case PointDebited():
                self._move(entry, fact.order_id, fact.user_id, -fact.points)
            case PointCredited():
                self._move(entry, fact.order_id, fact.user_id, fact.points)
            case PointDeposited():
                self._deposit(fact.user_id, fact.points)
                self._depositing.setdefault(fact.user_id, {})[fact.idempotency_key] = fact.points
            case PointUsed():
                assert course is not None
                self._answered(entry, fact, -fact.points)
                if fact.points > fact.total:
                    self._findings.add(2, entry, f"uses {fact.points} points for an order of {fact.total}")
                self._as_ordered(entry, fact)
                self._priced(entry, fact, course)
            case PointRefunded():
                self._answered(entry, fact, fact.points)
                self._as_ordered(entry, fact)
            case PointUseFailed():
                assert course is not None
                self._answered(entry, fact, 0)
                self._priced(entry, fact, course)
            case PointUseVoided():
                self._answered(entry, fact, 0)
            case PointCharged():
                self._charged(entry, fact)
            case _:
                assert_never(fact)

    def _move(self, entry: Entry, order_id: str, user_id: str, points: int) -> None:
        self._leave(entry, user_id, points)
        moved = self._moving.setdefault(order_id, {})
        moved[user_id] = moved.get(user_id, 0) + points

    def _leave(self, entry: Entry, user_id: str, points: int) -> None:
        account = self._account(user_id)
        account.left += points
        if account.left < 0:
            self._findings.add(2, entry, f"leaves {account.left} points")

    def _answered(
        self, entry: Entry, fact: PointUsed | PointUseFailed | PointRefunded | PointUseVoided, points: int
    ) -> None:
        """Judge whether the ledgers moved `points` to (negative: from) the order's customer before the answer `fact`.

        An answer that older code recorded moves the points itself.
        """
        user_id = fact.order.user_id
        if entry.stream == fact.earlier_stream:
            self._leave(entry, user_id, points)
            return
        expected = {user_id: points} if points else {}
        moved = self._moving.pop(fact.order_id, {})
        if moved != expected:
            self._findings.add(2, entry, f"the ledgers moved {moved}, should have moved {expected}")

    def _deposit(self, user_id: str, points: int) -> None:
        account = self._account(user_id)
        account.came += points
        account.left += points

    def _charged(self, entry: Entry, fact: PointCharged) -> None:
        if entry.stream == fact.earlier_stream:
            self._deposit(fact.user_id, fact.amount)
            return
        deposits = self._depositing.get(fact.user_id, {})
        deposited = deposits.pop(fact.idempotency_key, 0)
        if not deposits:
            self._depositing.pop(fact.user_id, None)
        if deposited != fact.amount:
            self._findings.add(2, entry, f"charges {fact.amount} points, but {deposited} were deposited")

    def _account(self, user_id: str) -> Balance:
        account = self._accounts.get(user_id)
        if account is None:
            account = self._accounts[user_id] = Balance()
        return account

    def _as_ordered(self, entry: Entry, fact: PointUsed | PointRefunded) -> None:
        if fact.points != fact.order.points:
            self._findings.add(2, entry, f"moves {fact.points} points for an order that uses {fact.order.points}")

    def _priced(self, entry: Entry, fact: PointUsed | PointUseFailed, course: Course) -> None:
        if not course.agrees_on_prices(fact.unit_prices, fact.total):
            self._findings.add(2, entry, "has other prices than other facts of its order")

    def finish(self, courses: Courses, is_quiet: IsQuiet) -> None:
        in_flight: Counter[str] = Counter()
        for order, times in unsettled(courses, "point", is_quiet):
            in_flight[order.user_id] += times * order.points
        for order_id, moved in self._moving.items():
            if is_quiet(courses.look(order_id)):
                self._findings.add(2, f"order {order_id}", f"the ledgers moved {moved}, but no answer says so")
            else:  # the cut divides a transaction
                in_flight.subtract(moved)
        for user_id, deposits in self._depositing.items():
            if is_quiet(Course()):
                self._findings.add(2, f"account {user_id}", f"{deposits} were deposited, but no charge says so")
        for user_id, account in self._accounts.items():
            used = account.claimed + in_flight[user_id]
            if account.came != account.left + used:
                what = f"{account.came} were charged, {account.left} are left, {used} are used by orders"
                self._findings.add(2, f"account {user_id}", what)

    def seen(self, user_id: str) -> int:
        account = self._accounts.get(user_id)
        return 0 if account is None else account.left
