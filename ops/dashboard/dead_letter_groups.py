"""Dead letters in groups: those that the same consumer rejects with the same error at the same place. Pure."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from infra.consuming.dead_letter import DeadLetter

_FRAME: Final = re.compile(r'File "(?:[^"\n]*/)?((?:contracts|infra|[a-z_]+_svc)/[^"\n]+)", line (\d+), in (\S+)')
"""A frame of a stack that is in this product's code."""


class DeadLetterKey(NamedTuple):
    """What is redriven together: all dead letters of one key of one consumer, in their order."""

    consumer: str
    key: str

    @property
    def text(self) -> str:
        return f"{self.consumer} {self.key}"


class DeadLetterGroup(NamedTuple):
    """Dead letters of one cause. `error` is its class, `frame` the innermost of our own frames; empty if none is known.

    `dead_letters` are in the order of DEAD: with each that was tried, those that wait behind it.
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
        """Return each dead letter, and its key if it is the first one of it."""
        seen: set[DeadLetterKey] = set()
        found = []
        for one in self.dead_letters:
            key = key_of(one)
            found.append((one, None if key in seen else key))
            seen.add(key)
        return found

    @property
    def tried(self) -> int:
        """How many were tried; the others wait."""
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
    """Return the groups of these dead letters, which are in the order of DEAD; the oldest group first."""
    firsts: dict[DeadLetterKey, tuple[str, str, str]] = {}
    found: dict[tuple[str, str, str], list[DeadLetter]] = {}
    for letter in letters:
        kind = (letter.consumer, error_class(letter.error), own_frame(letter.stack))
        if letter.attempts:
            firsts[key_of(letter)] = kind
        found.setdefault(firsts.get(key_of(letter), kind), []).append(letter)
    return [DeadLetterGroup(*kind, of_it) for kind, of_it in found.items()]


def error_class(error: str) -> str:
    """Return the class in an error's text, such as `ValidationError: …`; the beginning of a text without one."""
    name, colon, _ = error.partition(":")
    return name if colon and name.replace(".", "").isidentifier() else error[:60]


def own_frame(stack: str) -> str:
    """Return the innermost frame of our own code in a stack, as `point_svc/domain/use.py:41 decide`; empty without."""
    frames = _FRAME.findall(stack)
    if not frames:
        return ""
    path, line, function = frames[-1]
    return f"{path}:{line} {function}"
