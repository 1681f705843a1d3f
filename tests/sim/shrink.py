"""From a schedule that fails to the shortest one that still does."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from tests.sim.schedule import Schedule

T = TypeVar("T")

MOST_ATTEMPTS: Final = 500


def shrink(failing: T, shorter: Callable[[T], Iterable[T]], fails: Callable[[T], bool]) -> T:
    """Take what is shorter for as long as it still fails."""
    attempts = 0
    while True:
        for candidate in shorter(failing):
            attempts += 1
            if attempts > MOST_ATTEMPTS:
                return failing
            if fails(candidate):
                failing = candidate
                break
        else:
            return failing


def shorter(schedule: Schedule) -> Iterator[Schedule]:
    """The schedules with one thing less."""
    for n in range(len(schedule.faults)):
        yield schedule._replace(faults=_without(schedule.faults, n))
    for n, wish in enumerate(schedule.wishes):
        if len(schedule.wishes) > 1:
            yield schedule._replace(wishes=_without(schedule.wishes, n))
        for simpler in (
            wish._replace(cancel_after_s=None),
            wish._replace(times=1),
            wish._replace(coupon_id=None),
            wish._replace(points=0),
            wish._replace(lines=wish.lines[:1]),
        ):
            if simpler != wish:
                yield schedule._replace(wishes=(*schedule.wishes[:n], simpler, *schedule.wishes[n + 1 :]))


def _without(things: tuple[T, ...], n: int) -> tuple[T, ...]:
    return (*things[:n], *things[n + 1 :])
