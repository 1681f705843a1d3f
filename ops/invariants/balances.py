"""Balances of stock and points: an amount came in, some of it is left, and orders claim the rest."""

from collections.abc import Callable, Iterator

from msgspec import Struct

from contracts import Order
from ops.invariants.courses import Course, Courses

IsQuiet = Callable[[Course], bool]
"""Says whether no further fact of the order of this course is to be expected, so that anything missing is wrong."""


class Balance(Struct, array_like=True):
    """A product's pieces or an account's points: `came` in, `left` by the ledger's facts, `claimed` by orders.

    `claimed` counts what pending and confirmed orders ask for. `price`: the product's, in won; null: an account, or a
    product that is not registered.
    """

    price: int | None = None
    came: int = 0
    left: int = 0
    claimed: int = 0


def unsettled(courses: Courses, step: str, is_quiet: IsQuiet) -> Iterator[tuple[Order, int]]:
    """Yield each incomplete order that holds less or more than it claims at this step, and how often to add its part.

    That is -1 for one that holds less, and 1 for one that holds more.

    Add the part to the sums that are judged now, not to the remembered ones, because these orders go on. See
    Course.still_takes.
    """
    for course in courses.in_flight.values():
        if course.order is not None:
            times = course.still_takes(step, quiet=is_quiet(course))
            if times:
                yield course.order, times
