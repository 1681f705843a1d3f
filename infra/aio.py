"""Waits for an event with a time limit, a thread, or the first of several coroutines; computes pauses for retries."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final, TypeVar

JITTER: Final = 0.5
"""The shortest pause as a share of the full one. The rest is random: processes that failed together retry apart."""

T = TypeVar("T")

CANCEL_AGAIN_S: Final = 0.25
"""A task that has not ended this long after it was canceled is canceled again. A cancellation may get lost: Python
3.11's `asyncio.wait_for` drops it if the awaited future is done at that moment, nats-py while it flushes."""


async def wait(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set, but no longer than `seconds` (None: without a limit). Returns whether it was set."""
    if event.is_set() or seconds is None:
        return await event.wait()
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def in_thread(call: Callable[[], T]) -> T:
    """Run `call` in a thread; return its result, or raise its error. `call` has ended by then.

    A thread cannot be canceled. So if the caller is canceled, this waits for the end of `call`, drops its result or
    error, and only then raises CancelledError: nobody lets go of a lock, or does the same again, while the thread works
    on.
    """
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):  # of a caller that is canceled again
                await asyncio.wait([running])
        await asyncio.gather(running, return_exceptions=True)  # nobody asks for its error any more
        raise


class Alarm:
    """Sets an event at a time. To put the time off costs no new timer: the event is then set at the earlier time."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def at(self, time_s: float) -> None:
        """Set the event at this time of the event loop's clock; if an earlier time is still to come, only at that."""
        if self._timer is None or self._timer.when() > time_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(time_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._event.set()


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run the coroutines until the first one ends; then cancel the others, and wait until they have ended.

    A coroutine that goes on is canceled again every CANCEL_AGAIN_S seconds. Raises the error of the first one to
    end; what the canceled ones raise is dropped. If several end at once, the earliest argument that raised counts. If
    the caller is canceled, all coroutines are canceled, and CancelledError is raised once they have ended.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done:
                task.result()
    finally:
        await _canceled(tasks)


async def _canceled(tasks: Collection[asyncio.Task[object]]) -> None:
    """Cancel the tasks, and again every CANCEL_AGAIN_S seconds, until all have ended.

    Then raises CancelledError if the caller was canceled meanwhile. The caller may be a task of another `first_of`,
    which cancels it again and again.
    """
    waiting, again = set(tasks), None
    while waiting:
        for task in waiting:
            task.cancel()
        try:
            _, waiting = await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)
        except asyncio.CancelledError as error:
            waiting, again = {task for task in waiting if not task.done()}, error
    await asyncio.gather(*tasks, return_exceptions=True)
    if again is not None:
        raise again


class Backoff:
    """Computes pauses between attempts; the caller sleeps. The full pause doubles each time, up to `longest_s`.

    Each pause is a random part of the full one: at least `jitter` times it.
    """

    def __init__(
        self, first_s: float, longest_s: float, jitter: float = JITTER, *, chance: Callable[[], float] = random.random
    ) -> None:
        """`first_s` is the first full pause in seconds.

        `jitter` is the shortest pause as a share of the full one (1: no randomness); `chance` draws from 0 to 1.
        """
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self._chance = chance
        self._full_s = first_s

    def next_s(self) -> float:
        """Return the next pause in seconds, and double the full pause for the following call, up to `longest_s`."""
        full_s, self._full_s = self._full_s, min(2 * self._full_s, self._longest_s)
        return full_s * (self._jitter + (1 - self._jitter) * self._chance())

    def reset(self) -> None:
        """Make the next full pause `first_s` again, such as after a success."""
        self._full_s = self._first_s

    def longest(self) -> None:
        """Make the next full pause `longest_s`, and those after it, until `reset`: repeating soon will not help."""
        self._full_s = self._longest_s
