"""The answers to orders as numbers, in the order in which they came.

An answer takes 25 bytes, so that keeping many of them does not slow down what is measured.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
from time import perf_counter

import msgspec
from msgspec import Struct

from bench.client import Answer


class _Body(Struct):
    status: str | int = ""
    type: str = ""


_decoder = msgspec.json.Decoder(_Body)


def end(answer: Answer) -> str:
    """How an order ended; for any other answer its status, and its problem or the order's status."""
    try:
        body = _decoder.decode(answer.body)
    except msgspec.DecodeError:
        return f"{answer.status}"
    if answer.status == 200 and body.status == "CONFIRMED":
        return "confirmed"
    if answer.status == 409:
        return body.type.removeprefix("/problems/")
    return f"{answer.status} {body.type or body.status}"


class Taken:
    """`after`: seconds, of each answer. `at`: seconds from the making of this object until it came."""

    def __init__(self) -> None:
        self.after, self.at = array("d"), array("d")
        self._numbers, self._ends = array("q"), array("B")
        self._codes: dict[str, int] = {}
        self._began = perf_counter()

    def take(self, number: int, answer: Answer) -> None:
        """Take the answer to the order of this number."""
        self.at.append(perf_counter() - self._began)
        self.after.append(answer.after_s)
        self._numbers.append(number)
        self._ends.append(self._codes.setdefault(end(answer), len(self._codes)))

    def each(self) -> Iterator[tuple[int, str]]:
        """The number of each order, and how it ended."""
        names = list(self._codes)
        return ((number, names[code]) for number, code in zip(self._numbers, self._ends, strict=True))

    def ends(self) -> dict[str, int]:
        """How many orders ended in each way."""
        return dict(Counter(ended for _, ended in self.each()))
