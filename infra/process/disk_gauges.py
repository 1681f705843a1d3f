"""The gauges of the disk below DATA_DIR: what is free, and at what rate it fills. A scrape reads memory alone."""

import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

import structlog

from infra.aio import in_thread, wait
from infra.metrics import Labels
from infra.process.runtime import Runtime

logger = structlog.get_logger()

LOOK_EVERY_S: Final = 10.0
KEPT_S: Final = 3_600.0
"""The rate is that of the last hour."""
LEAST_S: Final = 600.0
"""A shorter time tells nothing: checkpoints and read models free and take some megabytes."""


class FreeBytes(NamedTuple):
    """How many bytes were free `at` a time, in seconds of a clock that only rises."""

    at: float
    free: int


def free_bytes(folder: Path) -> int:
    """Return how many bytes a service can still write into this folder. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class DiskGauges:
    """Exports what is free on the disk with a service's store; the disk may be shared with others, who fill it, too.

    Making one also has `runtime` run `run` as a task.
    """

    def __init__(
        self,
        runtime: Runtime,
        folder: Path,
        *,
        read: Callable[[Path], int] = free_bytes,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._runtime, self._folder, self._read, self._clock = runtime, folder, read, clock
        self._seen: deque[FreeBytes] = deque()
        runtime.tasks.append(self.run)
        runtime.metrics.gauges_by(
            "saga_data_free_bytes",
            "Bytes that are free on the disk with the service's store, at the last look.",
            (),
            lambda: {(): self._seen[-1].free} if self._seen else {},
        )
        runtime.metrics.gauges_by(
            "saga_data_fill_bytes_per_second",
            "At what rate this disk has filled within the last hour; missing before ten minutes.",
            (),
            self._rate,
        )

    def _rate(self) -> Mapping[Labels, float]:
        if not self._seen or (seconds := self._seen[-1].at - self._seen[0].at) < LEAST_S:
            return {}
        return {(): max(0.0, (self._seen[0].free - self._seen[-1].free) / seconds)}

    async def run(self) -> None:
        """Look every LOOK_EVERY_S seconds, until the process closes."""
        await self.look()
        while not await wait(self._runtime.closing, LOOK_EVERY_S):
            await self.look()

    async def look(self) -> None:
        """Read how many bytes are free now, and keep that for an hour. What cannot be read is logged and left out."""
        try:
            free = await in_thread(lambda: self._read(self._folder))
        except OSError as error:
            logger.debug("what is free on the disk cannot be read", path=str(self._folder), error=str(error))
            return
        now = self._clock()
        self._seen.append(FreeBytes(now, free))
        while self._seen[0].at < now - KEPT_S:
            self._seen.popleft()
