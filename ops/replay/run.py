"""One replay: the selected messages of a stream or of lines, passed on at the wanted speed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import combinations
from time import monotonic
from typing import Final, NamedTuple

from msgspec import Struct

from contracts.wire import STREAM, why_newer
from infra.archive.lines import matches
from infra.timestamps import EPOCH
from ops import reading
from ops.output import print_out
from ops.replay.lines import SECOND_NS, ReplayedMessage, is_subject, message, overlap, parsed, since_1970_ns

MICROSECOND_NS: Final = 1_000
MAX_CLOCK_SKEW: Final = timedelta(hours=1)  # a service's clock may be this much ahead of the broker's


class Selection(NamedTuple):
    """The messages to replay: those of any of the `subjects` (filters of NATS; none: all) within all bounds, inclusive.

    `first` and `last` are sequences of EVENTS. `since` and `until` bound the fact's own time, its `at`, wherever in the
    stream it is. None: no bound. A message without such a time counts by when it was stored, to the microsecond.
    """

    subjects: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def has(self, told: ReplayedMessage) -> bool:
        """Whether this message is selected."""
        return (
            (not self.subjects or any(matches(pattern, told.subject) for pattern in self.subjects))
            and (self.first is None or told.sequence >= self.first)
            and (self.last is None or told.sequence <= self.last)
            and (self.since is None or told.at_ns >= since_1970_ns(self.since))
            and (self.until is None or told.at_ns < since_1970_ns(self.until) + MICROSECOND_NS)
        )

    @property
    def read_by(self) -> tuple[str, ...]:
        """The filters for the consumer that reads the stream; `has` selects once more.

        Empty, so that the consumer reads all messages, if two filters overlap: NATS refuses such a consumer.
        """
        return () if any(overlap(*pair) for pair in combinations(self.subjects, 2)) else self.subjects


class Replayed(Struct):
    """Counts the replayed messages. `first`, `last`: the source's sequences of the first and last one (null: none).

    `newer`: how many of them are of newer code; like all messages they are replayed byte for byte. `first_newer`: a
    text, where the first of these is, and what of it this code does not know; empty: there is none.
    """

    messages: int = 0
    first: int | None = None
    last: int | None = None
    newer: int = 0
    first_newer: str = ""

    def count(self, told: ReplayedMessage) -> None:
        self.messages += 1
        self.first = told.sequence if self.first is None else self.first
        self.last = told.sequence
        name = told.subject.rpartition(".")[0]
        if STREAM in told.headers and (why := why_newer(name, told.body)) is not None:
            self.newer += 1
            self.first_newer = self.first_newer or f"{told.subject} at sequence {told.sequence}: {why.what}"


def due_s(since_first_ns: int, speed: float | None) -> float:
    """Return how many seconds after the first message another one is due.

    `since_first_ns`: how much later it was said. `speed`: a factor of the original speed; None: 0.0, at once.
    """
    return 0.0 if speed is None else since_first_ns / SECOND_NS / speed


async def from_stream(env: Mapping[str, str], selection: Selection) -> AsyncGenerator[ReplayedMessage]:
    """Yield the selected messages of EVENTS, in its order, up to its end as of now.

    With `since` and without `first`, it reads only what the broker stored later than MAX_CLOCK_SKEW before `since`. No
    fact is stored before it is said, but for that difference of the clocks.
    A foreign message whose subject `is_subject` refuses is left out, selected or not, with a line on standard error.
    One whose subject is not UTF-8 comes with these bytes escaped, under another subject. Raises Unreachable,
    SettingsError.
    """
    since = selection.since
    first: int | datetime = selection.first or 1
    if since is not None and selection.first is None:
        first = max(since, EPOCH + MAX_CLOCK_SKEW) - MAX_CLOCK_SKEW
    async with reading.stream(env) as stream:
        chunks = reading.chunks(stream, selection.read_by, first=first, last=selection.last)
        async with contextlib.aclosing(chunks) as found:
            async for chunk in found:
                for told in map(message, chunk):
                    if not is_subject(told.subject):
                        print_out(
                            f"left out: the foreign message {told.sequence}, whose subject is no text", error=True
                        )
                    elif selection.has(told):
                        yield told


async def from_lines(lines: Iterable[bytes], selection: Selection) -> AsyncGenerator[ReplayedMessage]:
    """Yield the selected messages of these lines, in their order. Raises BadLine."""
    for _, told in parsed(lines):
        if selection.has(told):
            yield told


async def begun(messages: AsyncGenerator[ReplayedMessage]) -> AsyncGenerator[ReplayedMessage] | None:
    """Read the first message. Return a generator of all messages, the first one included; None: there are none.

    Raises the errors of `messages`.
    """
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
    *,
    rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = monotonic,
) -> None:
    """Pass each message to `say`, at `speed` times the original speed (None: no pauses), then count it in `done`.

    `rest` waits for a number of seconds, until a message is due; `clock` gives the elapsed seconds. `messages` is
    closed at the end. Raises the errors of `messages`, `say` and `rest`.
    """
    async with contextlib.aclosing(messages) as found:
        async for told in _paced(found, speed, rest, clock):
            await say(told)
            done.count(told)


async def _paced(
    messages: AsyncIterator[ReplayedMessage],
    speed: float | None,
    rest: Callable[[float], Awaitable[None]],
    clock: Callable[[], float],
) -> AsyncIterator[ReplayedMessage]:
    began: float | None = None
    first_ns = 0
    async for told in messages:
        if began is None:
            began, first_ns = clock(), told.at_ns
        early_s = due_s(told.at_ns - first_ns, speed) - (clock() - began)
        if speed is not None and early_s > 0:
            await rest(early_s)
        yield told
