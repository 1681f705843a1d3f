"""Waiting: for an event with a limit, for the first of several coroutines, and before another attempt."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final

JITTER: Final = 0.5
"""The shortest pause as a share of the full one: processes that failed together retry at different times."""


async def wait(event: asyncio.Event, seconds: float | None) -> bool:
    """Whether the event is set within this many seconds; None waits without a limit."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run the coroutines until the first one ends; then cancel the others and wait for their ends.

    Raises the error of the first one. If several end at once, the earliest argument that raised counts.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Backoff:
    """Pauses between attempts: each is twice as long as the one before it, up to `longest_s`, less the jitter."""

    def __init__(
        self, first_s: float, longest_s: float, jitter: float = JITTER, *, chance: Callable[[], float] = random.random
    ) -> None:
        """`jitter` is the shortest pause as a share of the full one; `chance` draws a number from 0 to 1."""
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self._chance = chance
        self._full_s = first_s

    def next_s(self) -> float:
        """Take the next pause, in seconds, less the jitter. The pause after it is twice as long, up to `longest_s`."""
        full_s, self._full_s = self._full_s, min(2 * self._full_s, self._longest_s)
        return full_s * (self._jitter + (1 - self._jitter) * self._chance())

    def reset(self) -> None:
        """Make the next pause the first one again, such as after a success."""
        self._full_s = self._first_s

    def longest(self) -> None:
        """Repeating soon will not help: the next pause is the longest one."""
        self._full_s = self._longest_s
