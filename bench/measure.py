"""What the processes of a system cost: CPU and memory, their children included."""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Final

import psutil

LOOK_EVERY_S: Final = 0.25


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds, user and system, that these processes and all their children have used so far."""
    used = 0.0
    for process in _all(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system + times.children_user + times.children_system
    return used


def memory_mb(pids: Iterable[int]) -> float:
    """Their memory, in 10⁶ bytes, now: what several of them share counts once (Linux's PSS)."""
    used = 0
    for process in _all(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            used += process.memory_full_info().pss
    return used / 1e6


@contextlib.contextmanager
def peak_memory_mb(pids: Iterable[int]) -> Iterator[list[float]]:
    """A list of one: the most memory they had at any time that was looked at, which is four times a second."""
    known, peak, over = list(pids), [memory_mb(pids)], threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            peak[0] = max(peak[0], memory_mb(known))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
        peak[0] = max(peak[0], memory_mb(known))


def _all(pids: Iterable[int]) -> Iterator[psutil.Process]:
    for pid in pids:
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)
