"""Names and numbers of the stream's generations: EVENTS is generation 0, then come EVENTS_1, EVENTS_2 and so on.

Each generation n but EVENTS takes what is published below `l<n>.` and stores it without that prefix. The first sequence
of generation n is n * SPAN + 1. So a sequence alone says in which generation a message is, and sequences rise over all
of them.
"""

import re
from typing import Final

EVENTS: Final = "EVENTS"

SPAN: Final = 1_000_000_000
"""Sequences of one generation. It rolls over long before it has used them."""

_NAME: Final = re.compile(rf"{EVENTS}(?:_([1-9][0-9]{{0,8}}))?\Z")


def stream_name(number: int) -> str:
    """Return the name of the stream that is this generation."""
    return EVENTS if number == 0 else f"{EVENTS}_{number}"


def number_of(stream: str) -> int | None:
    """Return the number of the generation with this name; None if it is the name of another stream."""
    found = _NAME.match(stream)
    return None if found is None else int(found[1] or 0)


def generation_of(sequence: int) -> int:
    """Return the number of the generation that has this sequence."""
    return max(0, sequence - 1) // SPAN


def stream_of_sequence(sequence: int) -> str:
    """Return the name of the stream that has this sequence."""
    return stream_name(generation_of(sequence))


def first_sequence(number: int) -> int:
    return number * SPAN + 1


def prefix(number: int) -> str:
    """Return what precedes the fact's name in a subject published into this generation: `l<n>.`; empty for EVENTS."""
    return "" if number == 0 else f"l{number}."
