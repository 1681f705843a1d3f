"""What code wrote a service's log: since which position, and which words of facts that code knows.

The file `vocabulary.json` lies beside the store. A service adds a period to it when it starts with another vocabulary
than the one before. So older code, after a rollback, knows which part of the log newer code may have recorded, without
reading all of it. The file may be deleted: then the service reads its whole log once.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from contracts.wire import VOCABULARY, said_by
from infra import files

NAME: Final = "vocabulary.json"


class Period(Struct, frozen=True):
    """The records after position `after` were made by code that knows these words, up to the next period."""

    after: int
    words: list[str]


_periods: Final = msgspec.json.Decoder(list[Period])


class Stretch(NamedTuple):
    """The records after `after`, up to `until` (inclusive), that newer code may have made; `unknown`: its words."""

    after: int
    until: int
    unknown: frozenset[str]


def read(folder: Path) -> list[Period] | None:
    """Return the periods of the store in this folder; None without a readable file. Raises no error."""
    try:
        return _periods.decode((folder / NAME).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def known(service: str) -> frozenset[str]:
    """Return what this code knows of the facts that a service says."""
    return frozenset(word for word in VOCABULARY if said_by(word) == service)


def begin(folder: Path, last: int, words: Collection[str]) -> list[Stretch]:
    """Note that code with these words continues the log after its position `last`. Call it before anything is recorded.

    Returns what newer code may have recorded so far; of a log without a fitting file, all. Raises OSError.
    """
    found = read(folder)
    if found is None or not found or found[-1].after > last:  # of another log
        periods, stretches = [], [Stretch(0, last, frozenset())] if last else []
    else:
        periods, stretches = found, list(_stretches(found, last, words))
    if not periods or set(periods[-1].words) != set(words):
        periods = [*periods, Period(last if periods else 0, sorted(words))]
        files.write(folder / NAME, msgspec.json.encode(periods))
    return stretches


def _stretches(periods: list[Period], last: int, words: Collection[str]) -> Iterator[Stretch]:
    ends = [*(period.after for period in periods[1:]), last]
    for period, until in zip(periods, ends, strict=True):
        unknown = frozenset(period.words).difference(words)
        if unknown and until > period.after:
            yield Stretch(period.after, until, unknown)


def unknown_names(folder: Path) -> list[str]:
    """Return the names of facts that newer code may have recorded in this folder's log. Raises no error."""
    words = {word for period in read(folder) or () for word in period.words}
    return sorted(word for word in words - VOCABULARY if " " not in word)
