"""Coupons: which order uses which, and the discount that it gets.

A coupon's own facts say which order holds it, and the answer to the order, which the log has after them, must say the
same. Where older code recorded the answer in the coupon's stream, the answer alone says it.
"""

from typing import assert_never

from msgspec import Struct

from contracts import (
    CouponHeld,
    CouponIssued,
    CouponRestored,
    CouponReturned,
    CouponUsed,
    CouponUseFailed,
    CouponUseVoided,
)
from contracts.coupon import CouponFact, CouponSays
from infra.timestamps import microseconds
from ops.invariants.balances import IsQuiet
from ops.invariants.courses import Course, Courses
from ops.invariants.findings import Entry, Findings
from ops.invariants.live import CouponSeen
from ops.invariants.memory import Memory


class CouponUse(Struct, array_like=True):
    """A coupon as it was issued (discount in won), and the order that uses it; null: none.

    `expires_us` is in microseconds since 1970 (UTC): a number for each instant that a fact can have, whatever its
    offset. As a `datetime` in UTC, a time near the end of the year 9999 can be out of range.
    """

    user_id: str
    discount: int
    expires_us: int
    order_id: str | None = None


class CouponsInvariant:
    """Checks invariant 3: a coupon is in use by at most one order.

    That order must belong to the coupon's owner and be accepted before the coupon expired. It gets the coupon's
    discount, capped at the amount left to pay. A restore must come from the order that uses the coupon.
    """

    def __init__(self, findings: Findings, memory: Memory) -> None:
        self._findings = findings
        self._coupons = memory.many("coupons", CouponUse)
        self._moving = memory.few("moving_coupons", tuple[str, bool])
        """Order id → the coupon that moved, and whether the order holds it; while the answer has not been fed."""

    def __len__(self) -> int:
        return len(self._coupons)

    def said(self, entry: Entry, fact: CouponSays, course: Course | None) -> None:
        match fact:
            case CouponHeld():
                self._hold(entry, fact.coupon_id, fact.order_id)
                self._moving[fact.order_id] = (fact.coupon_id, True)
            case CouponReturned():
                self._return(entry, fact.coupon_id, fact.order_id)
                self._moving[fact.order_id] = (fact.coupon_id, False)
            case CouponUsed():
                assert course is not None
                self._match(entry, fact, fact.coupon_id, held=True)
                self._used(entry, fact)
                self._priced(entry, fact, course)
                if not course.agrees_on_discount(fact.discount):
                    self._findings.add(3, entry, f"has another discount than its confirmation: {fact.discount}")
            case CouponUseFailed():
                assert course is not None
                self._match(entry, fact, None, held=False)
                self._priced(entry, fact, course)
            case CouponRestored():
                self._match(entry, fact, fact.coupon_id, held=False)
            case CouponIssued():
                if self._coupons.get(fact.coupon_id) is not None:
                    self._findings.add(3, entry, "issues a coupon a second time")
                else:
                    self._coupons[fact.coupon_id] = CouponUse(
                        fact.user_id, fact.discount, microseconds(fact.expires_at)
                    )
            case CouponUseVoided():
                self._match(entry, fact, None, held=False)
            case _:
                assert_never(fact)

    def _hold(self, entry: Entry, coupon_id: str, order_id: str) -> None:
        coupon = self._coupons.get(coupon_id)
        if coupon is None:
            self._findings.add(3, entry, "uses a coupon that was never issued")
            return
        if coupon.order_id is not None:
            self._findings.add(3, entry, f"uses a coupon that order {coupon.order_id} uses")
        coupon.order_id = order_id

    def _return(self, entry: Entry, coupon_id: str, order_id: str) -> None:
        coupon = self._coupons.get(coupon_id)
        if coupon is None or coupon.order_id != order_id:
            self._findings.add(3, entry, f"takes coupon {coupon_id} from an order that does not use it")
        else:
            coupon.order_id = None

    def _match(self, entry: Entry, fact: CouponFact, coupon_id: str | None, *, held: bool) -> None:
        """Judge whether this coupon, and no other, moved before the answer `fact`: to the order (`held`) or from it.

        `coupon_id` None: no coupon may have moved. An answer that older code recorded moves the coupon itself.
        """
        expected = None if coupon_id is None else (coupon_id, held)
        if expected is not None and entry.stream == fact.earlier_stream:
            (self._hold if held else self._return)(entry, expected[0], fact.order_id)
            return
        moved = self._moving.pop(fact.order_id, None)
        if moved != expected:
            self._findings.add(3, entry, f"its coupon moved {_moves(moved)}, should have moved {_moves(expected)}")

    def _used(self, entry: Entry, fact: CouponUsed) -> None:
        order, discount = fact.order, 0
        if fact.coupon_id != order.coupon_id:
            self._findings.add(3, entry, f"uses coupon {fact.coupon_id}, ordered was {order.coupon_id}")
        if fact.coupon_id is not None:
            coupon = self._coupons.get(fact.coupon_id)
            if coupon is None:
                return
            if coupon.user_id != order.user_id or microseconds(order.placed_at) >= coupon.expires_us:
                self._findings.add(3, entry, "uses a coupon that is another customer's or had expired")
            discount = min(coupon.discount, fact.total - order.points)
        if fact.discount != discount:
            self._findings.add(3, entry, f"takes off {fact.discount}, should take off {discount}")

    def _priced(self, entry: Entry, fact: CouponUsed | CouponUseFailed, course: Course) -> None:
        if not course.agrees_on_prices(fact.unit_prices, fact.total):
            self._findings.add(3, entry, "has other prices than other facts of its order")

    def finish(self, courses: Courses, is_quiet: IsQuiet) -> None:
        for order_id, moved in self._moving.items():
            if is_quiet(courses.look(order_id)):
                self._findings.add(3, f"order {order_id}", f"its coupon moved {_moves(moved)}, but no answer says so")

    def seen(self, coupon_id: str) -> CouponSeen | None:
        coupon = self._coupons.get(coupon_id)
        return None if coupon is None else CouponSeen(coupon.user_id, coupon.discount, coupon.order_id)


def _moves(moved: tuple[str, bool] | None) -> str:
    """Say in words where a coupon moved. `moved`: its id, and whether to the order (else from it); None: nowhere."""
    if moved is None:
        return "nowhere"
    coupon_id, held = moved
    return f"{'to' if held else 'from'} the order ({coupon_id})"
