"""Writes lines in a thread of its own: the caller of `put` does not wait for a reader that is slow or gone.

If nobody reads, or the disk is full, lines are dropped and counted; a later line of its own says so.
"""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

MAX_WAITING_BYTES: Final = 1 << 20
"""Bytes of the lines that wait to be written, at most; further lines are dropped."""
AGAIN_S: Final = 1.0
"""How long after a failure it is tried again to tell of dropped lines, if no line comes meanwhile."""
GONE: Final = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO})
"""Errors which mean that the reader is gone for good, such as a closed terminal. A full disk is none of them."""


class LineOutput:
    """Writes lines in order in a thread of its own; drops those that cannot be written, or of which too many wait.

    A later line tells how many are missing. All methods may be called from any thread.
    """

    def __init__(
        self,
        write: Callable[[bytes], int],
        dropped: Callable[[int, str], str],
        *,
        gone: Callable[[], None] = lambda: None,
        tick: Callable[[], None] = lambda: None,
        tick_s: float | None = None,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        """`write` writes bytes and returns how many it wrote; it may block, and may raise OSError.

        `dropped(count, why)` makes the line which says that `count` lines are missing. `gone` is called once if the
        reader is gone. The thread begins at the first line. It calls `gone` and `tick`: `tick` after each line, and
        after every `tick_s` seconds without one (None: never then). Dropped lines are told of at the latest `tick_s`
        seconds (None: AGAIN_S) after lines can be written again.
        """
        self._write = write
        self._dropped_line = dropped
        self._gone = gone
        self._tick = tick
        self._tick_s = tick_s
        self._most = max_waiting_bytes
        self._changed = threading.Condition()
        self._lines: deque[tuple[bytes, int]] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._untold = 0
        """How many lines were dropped when it last failed to tell of them."""
        self._is_gone = False
        self._why = ""
        self._partial = False
        self._thread: threading.Thread | None = None

    def put(self, line: str, count: int = 1) -> None:
        """Queue a line, given without its newline, and return at once.

        The line is dropped if more than `max_waiting_bytes` would wait then. `count`: how many lines `line` has; more
        than one are dropped together.
        """
        data = f"{line}\n".encode(errors="backslashreplace")
        with self._changed:
            if self._waiting_bytes + len(data) > self._most:
                self._dropped += count
                self._why = self._why or "nobody read them in time"
            else:
                self._lines.append((data, count))
                self._waiting_bytes += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all lines are written or dropped, for `timeout_s` seconds at most. Returns whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting_bytes, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._dropped > self._untold, self._pause_s())
                data, count = self._lines.popleft() if self._lines else (b"", 0)
            if data:
                self._deliver(data, count)
                with self._changed:
                    self._waiting_bytes -= len(data)
                    self._changed.notify_all()
            elif self._dropped:
                self._deliver(b"", 0)
            if data or self._tick_s is not None:
                self._tick()

    def _pause_s(self) -> float | None:
        if self._tick_s is None and self._dropped and not self._is_gone:
            return AGAIN_S
        return self._tick_s

    def _deliver(self, data: bytes, count: int) -> None:
        try:
            if self._dropped:
                with self._changed:
                    dropped, why = self._dropped, self._why
                self._write_all(f"{self._dropped_line(dropped, why)}\n".encode(errors="backslashreplace"))
                with self._changed:
                    self._dropped -= dropped
                    self._untold = 0
                    self._why = ""
            self._write_all(data)
        except OSError as error:
            with self._changed:
                self._dropped += count
                self._untold = self._dropped
                self._why = error.strerror or str(error)
                self._is_gone = error.errno in GONE
            if error.errno in GONE:
                gone, self._gone = self._gone, lambda: None
                gone()

    def _write_all(self, data: bytes) -> None:
        if self._partial:  # the line before was cut off: this one begins on a line of its own
            data = b"\n" + data
        while data:
            data = data[self._write(data) :]
            self._partial = bool(data)


def writing_to(stream: TextIO) -> Callable[[bytes], int]:
    """Return a function that writes bytes to the stream's descriptor and returns how many, as `os.write` does.

    For a stream without a descriptor, that function calls the stream's own `write` and `flush`. With a descriptor, the
    stream's own buffer is not used, so a failed write loses only the line that it was to write. That function raises
    OSError if it fails.
    """
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return lambda data: _written(stream, data)
    return lambda data: os.write(number, data)


def _written(stream: TextIO, data: bytes) -> int:
    try:
        stream.write(data.decode(errors="replace"))
        stream.flush()
    except ValueError as error:
        raise OSError(errno.EBADF, str(error)) from error
    return len(data)
