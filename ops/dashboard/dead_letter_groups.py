"""Dead letters in groups: those that the same consumer rejects with the same error at the same place. Pure."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from infra.consuming.dead_letter import DeadLetter

_FRAME: Final = re.compile(r'File "(?:[^"\n]*/)?((?:contracts|infra|[a-z_]+_svc)/[^"\n]+)", line (\d+), in (\S+)')
"""A frame of a stack that is in this product's code."""


class DeadLetterKey(NamedTuple):
    """What is redriven together: all dead letters of one key (such as an order's id) of one consumer, oldest first.

    `consumer`: the listener's name, as in DeadLetter.
    """

    consumer: str
    key: str

    @property
    def text(self) -> str:
        return f"{self.consumer} {self.key}"


class DeadLetterGroup(NamedTuple):
    """Dead letters that one consumer rejects with the same `error` (see `error_class`) at the same `frame`.

    `frame`: the innermost stack frame of this product's code, as `own_frame` returns it; empty: none is known.
    `dead_letters`: those that were tried, and those that wait behind them; all in the order of the stream DEAD.
    """

    consumer: str
    error: str
    frame: str
    dead_letters: Sequence[DeadLetter]

    @property
    def keys(self) -> list[DeadLetterKey]:
        return list(dict.fromkeys(key_of(one) for one in self.dead_letters))

    @property
    def choices(self) -> list[tuple[DeadLetter, DeadLetterKey | None]]:
        """Return each dead letter of the group, with its key if it is the first one of that key, else with None."""
        seen: set[DeadLetterKey] = set()
        found = []
        for one in self.dead_letters:
            key = key_of(one)
            found.append((one, None if key in seen else key))
            seen.add(key)
        return found

    @property
    def tried(self) -> int:
        """How many of the group's dead letters were tried; the others wait behind an earlier one of their key."""
        return sum(one.attempts > 0 for one in self.dead_letters)

    @property
    def first(self) -> datetime:
        return min(one.at for one in self.dead_letters)

    @property
    def last(self) -> datetime:
        return max(one.at for one in self.dead_letters)


def key_of(letter: DeadLetter) -> DeadLetterKey:
    return DeadLetterKey(letter.consumer, letter.key)


def grouped(letters: Iterable[DeadLetter]) -> list[DeadLetterGroup]:
    """Group these dead letters, which must be in the order of DEAD. The group of the oldest one comes first.

    A dead letter that was not tried is in the group of the last tried one before it of its key and consumer. Without
    such a one, its own error and frame say its group.
    """
    firsts: dict[DeadLetterKey, tuple[str, str, str]] = {}
    found: dict[tuple[str, str, str], list[DeadLetter]] = {}
    for letter in letters:
        kind = (letter.consumer, error_class(letter.error), own_frame(letter.stack))
        if letter.attempts:
            firsts[key_of(letter)] = kind
        found.setdefault(firsts.get(key_of(letter), kind), []).append(letter)
    return [DeadLetterGroup(*kind, of_it) for kind, of_it in found.items()]


def error_class(error: str) -> str:
    """Return the class's name in an error's text: `ValidationError` for `ValidationError: …`.

    Without a name before the first colon, return the text's first 60 characters.
    """
    name, colon, _ = error.partition(":")
    return name if colon and name.replace(".", "").isidentifier() else error[:60]


def own_frame(stack: str) -> str:
    """Return the innermost frame of our own code in a stack, as `point_svc/domain/use.py:41 decide`; empty without."""
    frames = _FRAME.findall(stack)
    if not frames:
        return ""
    path, line, function = frames[-1]
    return f"{path}:{line} {function}"
