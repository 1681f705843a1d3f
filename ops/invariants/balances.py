"""What stock and points have in common: something came in, some of it is left, the rest is claimed by orders."""

from collections.abc import Callable, Iterator

from msgspec import Struct

from contracts import Order
from ops.invariants.courses import Course, Courses

IsQuiet = Callable[[Course], bool]
"""Whether nothing is to be expected of an order any more."""


class Balance(Struct, array_like=True):
    """What came in, what is left of it by the ledger, and what the orders that are not over claim of it."""

    price: int | None = None
    came: int = 0
    left: int = 0
    claimed: int = 0


def unsettled(courses: Courses, step: str, is_quiet: IsQuiet) -> Iterator[tuple[Order, int]]:
    """Orders whose claims are not what they hold, and how often their part has to be added (Course.still_takes).

    To what is judged now, not to what is remembered: they go on.
    """
    for course in courses.under_way.values():
        if course.order is not None:
            times = course.still_takes(step, quiet=is_quiet(course))
            if times:
                yield course.order, times
