"""Says behind which dead letter another one waits now: those before it may have been dropped or redriven. Pure."""

from collections.abc import Iterable

from infra.consuming.dead_letter import WAITS, DeadLetter


def as_waiting(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """Return these dead letters, the error of each that waits rewritten; the others as they are.

    The new error names, by its sequence in DEAD, the first of them with the same consumer and key. If the one that
    waits is that first one itself, its error says that what it waited behind is gone, and to redrive it.
    The given dead letters must be in the order of DEAD, and include all of each consumer and key.
    """
    firsts: dict[tuple[str, str], int] = {}
    return [_as_it_waits(one, firsts.setdefault((one.consumer, one.key), one.sequence)) for one in letters]


def waits(letter: DeadLetter) -> bool:
    """Return whether the dead letter waits: its message was not tried, because an earlier one of its key had failed."""
    return not letter.attempts and letter.error.startswith(WAITS)


def _as_it_waits(letter: DeadLetter, first: int) -> DeadLetter:
    if not waits(letter):
        return letter
    if letter.sequence != first:
        return letter._replace(error=f"{WAITS}{first}")
    return letter._replace(error=f"waited behind {letter.error.removeprefix(WAITS)}, which is gone: redrive it")
