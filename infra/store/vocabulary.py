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

from contracts.fact import DECODE_ERRORS
from infra import files

NAME: Final = "vocabulary.json"


class Period(Struct, frozen=True):
    """The records after position `after` were made by code that knows these words, up to the next period.

    The first period of a file also has the records from before the file was made: any code may have made them.
    """

    after: int
    words: list[str]


_periods: Final = msgspec.json.Decoder(list[Period])


class Segment(NamedTuple):
    """The records after `after`, up to `until` (inclusive), that newer code may have made.

    `unknown`: the words that the newer code knows and this code does not; empty if there was no fitting file.
    """

    after: int
    until: int
    unknown: frozenset[str]


def read(folder: Path) -> list[Period] | None:
    """Return the periods of the store in this folder; None without a readable file. Raises no error."""
    try:
        return _periods.decode((folder / NAME).read_bytes())
    except (OSError, *DECODE_ERRORS):
        return None


def begin(folder: Path, last: int, words: Collection[str]) -> list[Segment]:
    """Note in the file that code with these words continues the log after position `last`; call it before recording.

    Returns what newer code may have recorded up to `last`; that is the whole log if there is no fitting file. Raises
    OSError.
    """
    found = read(folder)
    if found is None or not found or found[-1].after > last:  # of another log
        periods, segments = [], [Segment(0, last, frozenset())] if last else []
    else:
        periods, segments = found, list(_segments(found, last, words))
    if not periods or set(periods[-1].words) != set(words):
        periods = [*periods, Period(last if periods else 0, sorted(words))]
        files.write(folder / NAME, msgspec.json.encode(periods))
    return segments


def _segments(periods: list[Period], last: int, words: Collection[str]) -> Iterator[Segment]:
    ends = [*(period.after for period in periods[1:]), last]
    for period, until in zip(periods, ends, strict=True):
        unknown = frozenset(period.words).difference(words)
        if unknown and until > period.after:
            yield Segment(period.after, until, unknown)


def unknown(folder: Path, words: Collection[str]) -> set[str]:
    """Return those words of the code that wrote this folder's log that are not in `words`. Raises no error.

    Empty without a readable file.
    """
    return {word for period in read(folder) or () for word in period.words}.difference(words)
