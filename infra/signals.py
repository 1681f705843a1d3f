"""Holds signals back until a process can handle them, so that none ends it half started.

A process that is started with held signals keeps them pending. It handles them right after `release`.
"""

import contextlib
import signal
from collections.abc import Iterator
from typing import Final

HELD: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def hold() -> None:
    """Let SIGTERM, SIGINT and SIGHUP wait until `release`, in this thread, and the threads and processes it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def release() -> None:
    """Let the held signals, and later ones, reach their handlers in this thread. Call it when the handlers are set."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGHUP wait in this thread until the context ends, and on if they waited before.

    A child process that is started inside the context begins with them held, and has to call `release` itself.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
