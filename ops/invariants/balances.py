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
    """Yield each order of `courses.in_flight` that holds less (with -1) or more (with 1) than it claims at this step.

    `step`: the step's service, without `_svc`. To judge the sums now, add the order's part so many times to a copy of
    `claimed`; the remembered sums stay, because these orders go on. See Course.still_takes.
    """
    for course in courses.in_flight.values():
        if course.order is not None:
            times = course.still_takes(step, quiet=is_quiet(course))
            if times:
                yield course.order, times
