"""From a schedule that fails to the shortest one that still does."""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

T = TypeVar("T")

MOST_ATTEMPTS: Final = 500


def shrink(failing: T, shorter: Callable[[T], Iterable[T]], fails: Callable[[T], bool]) -> T:
    """Replace the schedule by a shorter one for as long as that still fails."""
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
