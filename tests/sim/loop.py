"""An event loop whose time moves only when nothing is left to do, so that a minute of waiting costs nothing.

Callbacks run in the order in which they were scheduled, timers in the order of their times. So one seed is one course.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from itertools import count
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

OWNER: ContextVar[object] = ContextVar("OWNER")
"""The process that a callback is part of."""

MOST_STEPS: Final = 1_000_000
"""Maximum number of callbacks in one course. After that the course counts as an endless loop."""


class Stuck(Exception):
    """Nothing is left to wait for, or the course has no end: the awaited result will never come."""


class VirtualLoop(asyncio.BaseEventLoop):
    def __init__(self, handle: Callable[[str], None] | None = None) -> None:
        """`handle` gets the story of what happens, line by line."""
        super().__init__()
        self._tell = handle
        self._to_do: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()
        self._now = 0.0
        self._paused: dict[object, list[asyncio.Handle]] = {}
        self.errors: list[dict[str, Any]] = []
        """The errors that callbacks and forgotten tasks raised."""

    # What asyncio asks of a loop --------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._to_do.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A canceled timer stays in the queue and is skipped when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """The work of a thread is done all at once; a process that is killed before does not do it."""
        done: asyncio.Future[T] = self.create_future()
        self.call_soon(_work, done, func, args)
        return done

    # Running ----------------------------------------------------------------------------------------------------------

    def course(self, main: Coroutine[Any, Any, T]) -> T:
        """Run until `main` is done; then the loop is used up. Raises the errors of `main`, and Stuck."""
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            for _ in range(MOST_STEPS):
                if task.done():
                    return task.result()
                self._step()
            raise Stuck(f"{MOST_STEPS} steps and no end")
        finally:
            asyncio._set_running_loop(None)
            self.close()

    def _step(self) -> None:
        while not self._to_do:
            if not self._timers:
                raise Stuck("nothing is left to wait for")
            when, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._now = max(self._now, when)
                self._to_do.append(timer)
        handle = self._to_do.popleft()
        if handle.cancelled():
            return
        if self._paused:
            owner = handle._context.get(OWNER)  # type: ignore[attr-defined]
            if owner in self._paused:
                self._paused[owner].append(handle)
                return
        handle._run()

    def note(self, what: str, *about: object) -> None:
        """A line of the story: `what` with each `{}` filled."""
        if self._tell is not None:
            self._tell(f"{self._now:9.4f}  {what.format(*about)}")

    # Processes --------------------------------------------------------------------------------------------------------

    def pause(self, owner: object) -> None:
        """From now on no callback of `owner` runs, until it may `go_on`."""
        self._paused.setdefault(owner, [])

    def go_on(self, owner: object) -> None:
        self._to_do.extend(self._paused.pop(owner, ()))


def _work(done: asyncio.Future[T], work: Callable[[*Ts], T], args: tuple[*Ts]) -> None:
    if done.done():
        return
    try:
        done.set_result(work(*args))
    except Exception as error:
        done.set_exception(error)


def running() -> VirtualLoop:
    """The running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
