"""One replay: what is selected, from a stream or from lines, at its pace, to where it is wanted."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from itertools import combinations
from time import monotonic
from typing import Final, NamedTuple

from msgspec import Struct

from ops import reading
from ops.replay.lines import SECOND_NS, ReplayedMessage, matches, message, overlap, parsed, since_1970_ns

MICROSECOND_NS: Final = 1_000


class Selection(NamedTuple):
    """Which messages: by subject filters of NATS (none: all), and by sequence and time of storing, ends included.

    A time means its whole microsecond: what is finer cannot be asked for, so a message is found by its own time.
    """

    subjects: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def has(self, told: ReplayedMessage) -> bool:
        return (
            (not self.subjects or any(matches(pattern, told.subject) for pattern in self.subjects))
            and (self.first is None or told.sequence >= self.first)
            and (self.last is None or told.sequence <= self.last)
            and (self.since is None or told.at_ns >= since_1970_ns(self.since))
            and not self.is_over(told)
        )

    def is_over(self, told: ReplayedMessage) -> bool:
        """Whether this message is behind the selection, in time."""
        return self.until is not None and told.at_ns >= since_1970_ns(self.until) + MICROSECOND_NS

    @property
    def read_by(self) -> tuple[str, ...]:
        """The filters to read a stream by: none, if it would refuse these; `has` then sorts out."""
        return () if any(overlap(*pair) for pair in combinations(self.subjects, 2)) else self.subjects


class Replayed(Struct):
    """`messages` were replayed, read at the sequences from `first` to `last` (null: none was)."""

    messages: int = 0
    first: int | None = None
    last: int | None = None


def due_s(since_first_ns: int, speed: float | None) -> float:
    """How many seconds after the first one a message is due; None: as fast as it goes."""
    return 0.0 if speed is None else since_first_ns / SECOND_NS / speed


async def from_stream(env: Mapping[str, str], selection: Selection) -> AsyncGenerator[ReplayedMessage]:
    """Raises Unreachable, SettingsError."""
    first = selection.since if selection.since is not None else selection.first or 1
    async with reading.stream(env) as stream:
        chunks = reading.chunks(stream, selection.read_by, first=first, last=selection.last)
        async with contextlib.aclosing(chunks) as found:
            async for chunk in found:
                for told in map(message, chunk):
                    if selection.is_over(told):
                        return
                    if selection.has(told):
                        yield told


async def from_lines(lines: Iterable[bytes], selection: Selection) -> AsyncGenerator[ReplayedMessage]:
    """Raises BadLine."""
    for _, told in parsed(lines):
        if selection.has(told):
            yield told


async def begun(messages: AsyncGenerator[ReplayedMessage]) -> AsyncGenerator[ReplayedMessage] | None:
    """The same, once the first of them is there; None: there are none."""
    first = await anext(messages, None)
    return None if first is None else _continued(first, messages)


async def _continued(
    first: ReplayedMessage, messages: AsyncGenerator[ReplayedMessage]
) -> AsyncGenerator[ReplayedMessage]:
    yield first
    async for told in messages:
        yield told


async def replay(
    messages: AsyncGenerator[ReplayedMessage],
    say: Callable[[ReplayedMessage], Awaitable[None]],
    done: Replayed,
    speed: float | None = None,
    rest: Callable[[float], Awaitable[None]] | None = None,
) -> None:
    """Say them at this many times their original speed; `done` tells at any time how far that is.

    `rest`: what waits for so many seconds between two of them; by default nothing but the clock does.
    """
    async with contextlib.aclosing(messages) as found:
        async for told in _paced(found, speed, rest or asyncio.sleep):
            await say(told)
            done.messages += 1
            done.first = told.sequence if done.first is None else done.first
            done.last = told.sequence


async def _paced(
    messages: AsyncIterator[ReplayedMessage], speed: float | None, rest: Callable[[float], Awaitable[None]]
) -> AsyncIterator[ReplayedMessage]:
    began: float | None = None
    first_ns = 0
    async for told in messages:
        if began is None:
            began, first_ns = monotonic(), told.at_ns
        early_s = due_s(told.at_ns - first_ns, speed) - (monotonic() - began)
        if speed is not None and early_s > 0:
            await rest(early_s)
        yield told
