"""Warns on `/readyz` while the archive's bucket cannot be read.

A running service goes on until a generation leaves the broker. Then, and at a start, a service is not ready and
publishes nothing until the bucket answers.
"""

from typing import Final

import structlog

from infra.aio import wait
from infra.archive.errors import ArchiveDamaged
from infra.archive.places import ArchivePlace
from infra.broker.floor import archive_of
from infra.process.runtime import Runtime

logger = structlog.get_logger()

ASK_EVERY_S: Final = 30.0
"""Seconds between an answer and the next request: a store may cost money for each."""


def watch(runtime: Runtime) -> None:
    """Add the watch to the runtime; not for an archive in a folder, which every reader looks at anew."""
    place = archive_of(runtime.settings).place
    if not place.near:
        ArchiveWatch(runtime, place)


class ArchiveWatch:
    """Asks the place of the archive whether it can be read, once in ASK_EVERY_S seconds.

    Making one also adds its warnings and its task `run` to `runtime`.
    """

    def __init__(self, runtime: Runtime, place: ArchivePlace) -> None:
        self._closing = runtime.closing
        self._place = place
        self._why = ""
        runtime.warnings.append(self.warnings)
        runtime.tasks.append(self.run)

    def warnings(self) -> list[str]:
        """Return one warning: why the last request could not read the archive, and the next step; empty if it could."""
        return [self._why] if self._why else []

    async def run(self) -> None:
        """Ask until the process closes."""
        while True:
            await self.ask()
            if await wait(self._closing, ASK_EVERY_S):
                return

    async def ask(self) -> None:
        """Ask once; log if the archive can be read no more, or again."""
        before, self._why = self._why, await self._trouble()
        if self._why and not before:
            logger.warning("the archive cannot be read", reason=self._why)
        elif before and not self._why:
            logger.info("the archive can be read again", place=self._place.title)

    async def _trouble(self) -> str:
        try:
            await self._place.ask()
        except ArchiveDamaged as error:
            return str(error)
        return ""
