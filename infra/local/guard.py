"""Stops the processes of a system whose launcher was killed: a process of its own, which outlives the launcher.

The launcher tells it by a pipe which processes there are. When the pipe ends without a farewell, the launcher is gone,
and the guard stops them in order: first all but the broker, which services need to publish what they have recorded,
then the broker. Until they have ended, the guard keeps the reading end of their output open, because nothing may end by
a log line that nobody reads. Where Linux gives a process a descriptor (pidfd), the guard knows the process by that, not
by an id that a stranger may get later.

This file is run without the packages of the project: it imports the standard library alone.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from typing import IO, Final

STOP_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.02
LAST: Final = "last"


class Guard:
    """Starts the guard of a launcher's child processes, tells it of them, and dismisses it in the end."""

    def __init__(self, outputs: Collection[int] = ()) -> None:
        """`outputs`: descriptors of pipes to read from, into which the processes write."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *map(str, outputs)],
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=outputs,
        )
        self.pid = self._process.pid

    def watch(self, pid: int, *, last: bool = False) -> None:
        """Have the guard stop the process `pid`, too, if the launcher is killed. `last`: only after all others."""
        self._tell(f"+ {pid} {LAST if last else 'first'}")

    def forget(self, pid: int) -> None:
        """Note that the process `pid` has ended. No effect if it was not watched."""
        self._tell(f"- {pid}")

    def dismiss(self) -> None:
        """End the guard, and wait for its end; what it watches keeps running. May be called again."""
        if self._process.poll() is None:
            self._tell("dismissed")
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.wait()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # somebody has killed the guard
            self._pipe.write(f"{line}\n".encode())
            self._pipe.flush()


class WatchedProcess:
    """A process of the system, from inside the guard, which is not its parent."""

    def __init__(self, pid: int, *, last: bool) -> None:
        self._pid = pid
        self.last = last
        self._descriptor: int | None = None
        self._ended = False
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ended = True
        except (AttributeError, OSError):  # not Linux, or an old or a sandboxed one: then by the process id alone
            pass

    def ended(self) -> bool:
        if not self._ended and self._descriptor is not None:
            self._ended = bool(select.select([self._descriptor], [], [], 0)[0])
        elif not self._ended:
            self.send(0)  # sends nothing, and fails if there is no such process
        return self._ended

    def send(self, number: int) -> None:
        try:
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, number)
            elif not self._ended:
                os.kill(self._pid, number)
        except OSError:
            self._ended = True


def stop(processes: Collection[WatchedProcess]) -> None:
    """Send SIGTERM to these processes; send SIGKILL to those that still run STOP_TIMEOUT_S seconds later.

    Returns when all have ended, at the latest STOP_TIMEOUT_S seconds after SIGKILL.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            process.send(number)
        until = time.monotonic() + STOP_TIMEOUT_S
        while not all(process.ended() for process in processes) and time.monotonic() < until:
            time.sleep(POLL_S)


def drain(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(descriptor, 65_536):
            pass


def main() -> None:
    watched: dict[str, WatchedProcess] = {}
    for line in sys.stdin:
        match line.split():
            case ["+", pid, when]:
                watched[pid] = WatchedProcess(int(pid), last=when == LAST)
            case ["-", pid]:
                watched.pop(pid, None)
            case _:
                return
    for descriptor in sys.argv[1:]:
        threading.Thread(target=drain, args=(int(descriptor),), daemon=True).start()
    stop([process for process in watched.values() if not process.last])
    stop([process for process in watched.values() if process.last])


if __name__ == "__main__":
    main()
