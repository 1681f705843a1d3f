"""Points must add up: the sums come from the facts of accounts and orders, and not from the services' own fold."""

from collections import Counter
from typing import assert_never

from contracts import Order, PointCharged, PointRefunded, PointUsed, PointUseFailed, PointUseVoided
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

    def claim(self, order: Order, times: int) -> None:
        if order.points:
            self._account(order.user_id).claimed += times * order.points

    def __len__(self) -> int:
        return len(self._accounts)

    def said(self, entry: Entry, fact: PointSays, course: Course | None) -> None:
        match fact:
            case PointUsed():
                assert course is not None
                account = self._account(fact.order.user_id)
                account.left -= fact.points
                if account.left < 0:
                    self._findings.add(2, entry, f"leaves {account.left} points")
                if fact.points > fact.total:
                    self._findings.add(2, entry, f"uses {fact.points} points for an order of {fact.total}")
                self._as_ordered(entry, fact)
                self._priced(entry, fact, course)
            case PointRefunded():
                self._account(fact.order.user_id).left += fact.points
                self._as_ordered(entry, fact)
            case PointUseFailed():
                assert course is not None
                self._priced(entry, fact, course)
            case PointCharged():
                account = self._account(fact.user_id)
                account.came += fact.amount
                account.left += fact.amount
            case PointUseVoided():
                pass
            case _:
                assert_never(fact)

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
        for user_id, account in self._accounts.items():
            used = account.claimed + in_flight[user_id]
            if account.came != account.left + used:
                what = f"{account.came} were charged, {account.left} are left, {used} are used by orders"
                self._findings.add(2, f"account {user_id}", what)

    def seen(self, user_id: str) -> int:
        account = self._accounts.get(user_id)
        return 0 if account is None else account.left
