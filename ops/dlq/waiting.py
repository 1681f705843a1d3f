"""What a dead letter that was not tried waits behind, now that others may have been dropped or redriven. Pure."""

from collections.abc import Iterable

from infra.consuming.dead_letter import WAITS, DeadLetter


def as_waiting(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """Return these dead letters, in whose order each key's first one that is left comes first.

    The error of one that waits names that first one. If it is that first one itself, nothing will handle it by itself,
    and its error says so.
    """
    firsts: dict[tuple[str, str], int] = {}
    return [_as_it_waits(one, firsts.setdefault((one.consumer, one.key), one.sequence)) for one in letters]


def waits(letter: DeadLetter) -> bool:
    """Return whether it was not tried, because of another one of its key."""
    return not letter.attempts and letter.error.startswith(WAITS)


def _as_it_waits(letter: DeadLetter, first: int) -> DeadLetter:
    if not waits(letter):
        return letter
    if letter.sequence != first:
        return letter._replace(error=f"{WAITS}{first}")
    return letter._replace(error=f"waited behind {letter.error.removeprefix(WAITS)}, which is gone: redrive it")
