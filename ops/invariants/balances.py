"""Balances of stock and points: an amount came in, some of it is left, and orders claim the rest."""

from collections.abc import Callable, Iterator

from msgspec import Struct

from contracts import Order
from ops.invariants.courses import Course, Courses

IsQuiet = Callable[[Course], bool]
"""Whether no further fact of an order is to be expected."""


class Balance(Struct, array_like=True):
    """The amount that came in, the amount left by the ledger, and the amount that open and confirmed orders claim."""

    price: int | None = None
    came: int = 0
    left: int = 0
    claimed: int = 0


def unsettled(courses: Courses, step: str, is_quiet: IsQuiet) -> Iterator[tuple[Order, int]]:
    """Orders that do not hold what they claim, and how often their part has to be added (Course.still_takes).

    The part is added to the sums that are judged now, not to the remembered ones, because these orders go on.
    """
    for course in courses.in_flight.values():
        if course.order is not None:
            times = course.still_takes(step, quiet=is_quiet(course))
            if times:
                yield course.order, times
