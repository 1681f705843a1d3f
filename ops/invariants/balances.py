"""What stock and points have in common: something came in, some of it is left, the rest is claimed by orders."""

from collections.abc import Iterator

from contracts import Order
from ops.invariants.courses import Courses, Step


class Balance:
    """What came in, what is left of it by the ledger, and what the orders that are not over claim of it."""

    __slots__ = ("came", "claimed", "left", "price")

    def __init__(self) -> None:
        self.price: int | None = None
        self.came = 0
        self.left = 0
        self.claimed = 0


def unsettled(courses: Courses, step: Step, *, quiet: bool) -> Iterator[tuple[Order, int]]:
    """Orders whose claims are not what they hold, and how often their part has to be added (Course.still_takes)."""
    for course in courses.values():
        if course.order is not None:
            times = course.still_takes(step, quiet=quiet)
            if times:
                yield course.order, times
