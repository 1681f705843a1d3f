"""A crowd of requests leaves the event loop to others between its turns."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

import pytest

from infra.http.pacing import RequestPacer


class Loop:
    """An event loop of which the test makes each turn."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def turn(self) -> None:
        now, self.soon = self.soon, []
        for callback in now:
            callback()


def test_a_limited_number_begins_in_a_turn_and_the_others_in_the_next_turns_in_order() -> None:
    begun: list[int] = []
    loop = Loop()
    pacer = RequestPacer(cast(asyncio.AbstractEventLoop, loop), a_turn=3)

    for number in range(7):
        pacer.begin(partial(begun.append, number))
    seen = [len(begun)]
    while loop.soon:
        loop.turn()
        seen.append(len(begun))

    assert seen == [3, 6, 7, 7]
    assert begun == list(range(7))


def test_a_later_request_does_not_overtake_and_shares_the_turn() -> None:
    begun: list[str] = []
    loop = Loop()
    pacer = RequestPacer(cast(asyncio.AbstractEventLoop, loop), a_turn=2)

    for name in ("a", "b", "c"):
        pacer.begin(partial(begun.append, name))
    loop.turn()
    for name in ("d", "e"):
        pacer.begin(partial(begun.append, name))
    assert begun == ["a", "b", "c", "d"]
    loop.turn()
    assert begun == ["a", "b", "c", "d", "e"]
    while loop.soon:
        loop.turn()
    for name in ("f", "g", "h"):
        pacer.begin(partial(begun.append, name))

    assert begun == ["a", "b", "c", "d", "e", "f", "g"]


def test_a_request_that_cannot_begin_stops_no_other() -> None:
    begun: list[str] = []
    loop = Loop()
    pacer = RequestPacer(cast(asyncio.AbstractEventLoop, loop), a_turn=1)
    broken: dict[str, None] = {}
    pacer.begin(partial(begun.append, "a"))
    pacer.begin(lambda: broken["b"])
    pacer.begin(partial(begun.append, "c"))

    with pytest.raises(KeyError):
        loop.turn()
    while loop.soon:
        loop.turn()

    assert begun == ["a", "c"]
