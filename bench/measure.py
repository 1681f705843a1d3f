"""The cost of a system's processes, their children included: CPU and memory."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

import psutil

LOOK_EVERY_S: Final = 0.25

T = TypeVar("T")


class Usage(NamedTuple):
    """What each process had used at a moment (seconds since 1970): CPU seconds so far, and its RSS in 10⁶ bytes."""

    at: float
    cpu_s: dict[str, float]
    memory_mb: dict[str, float]


def usage(pids: Mapping[str, int]) -> Callable[[], Usage]:
    """A cheap look at these processes, which must have no children: 0.1 ms each."""
    processes = {name: psutil.Process(pid) for name, pid in pids.items()}

    def look() -> Usage:
        times = {name: process.cpu_times() for name, process in processes.items()}
        memory = {name: process.memory_info().rss / 1e6 for name, process in processes.items()}
        return Usage(time.time(), {name: used.user + used.system for name, used in times.items()}, memory)

    return look


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds, user and system, that these processes and all their children have used so far."""
    used = 0.0
    for process in _all(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system + times.children_user + times.children_system
    return used


def memory_mb(pids: Iterable[int]) -> float:
    """The present memory of these processes, in 10⁶ bytes. Memory that several share counts once (Linux's PSS)."""
    used = 0
    for process in _all(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            used += process.memory_full_info().pss
    return used / 1e6


@contextlib.contextmanager
def peak_memory_mb(pids: Iterable[int]) -> Iterator[list[float]]:
    """A list of one element: at the end, the highest memory that was measured."""
    known, peak = list(pids), [0.0]
    with looks(lambda: memory_mb(known)) as seen:
        try:
            yield peak
        finally:
            seen.append(memory_mb(known))
            peak[0] = max(seen)


@contextlib.contextmanager
def looks(look: Callable[[], T]) -> Iterator[list[T]]:
    """The results of `look`: one at the beginning, then four a second."""
    seen, over = [look()], threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_EVERY_S):
            seen.append(look())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _all(pids: Iterable[int]) -> Iterator[psutil.Process]:
    for pid in pids:
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)
