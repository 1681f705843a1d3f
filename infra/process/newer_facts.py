"""Finds, when a service starts, the facts in its log that newer code recorded, and tells of them.

After a rollback the service is ready: everything works but the streams with such a fact, which only the newer version
can read. A service that was not ready would take the rolled back system down, and no restart would mend it.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from contracts.newer import NEXT_STEP, known_fields
from contracts.wire import FACTS, VOCABULARY, fact_id, said_by, why_newer
from infra.process.runtime import Runtime
from infra.store import vocabulary
from infra.store.errors import StoreError
from infra.store.vocabulary import Segment

logger = structlog.get_logger()

CHUNK: Final = 500  # records between two turns of the event loop: two milliseconds
RETRY_S: Final = 1.0


async def watch(runtime: Runtime, service: str, folder: Path) -> None:
    """Note in `vocabulary.json` what this code knows of the service's facts; add search and warnings to the runtime.

    The file is in `folder`, the store's. Call this before the service records anything. Without a file of this log the
    whole log is searched. If the file cannot be written, or the log not read, that is logged; nothing is searched.
    """
    known = [word for word in VOCABULARY if said_by(word) == service]
    try:
        segments = vocabulary.begin(folder, await runtime.store.max_notification_id(), known)
    except (OSError, StoreError) as error:
        logger.warning("what this code knows of facts cannot be written down", folder=str(folder), error=str(error))
        segments = []
    found = NewerFacts(runtime, segments)
    runtime.warnings += [runtime.writer.unreadable.warnings, found.warnings]
    runtime.tasks.append(found.run)


class NewerFacts:
    """Searches these segments of the log once for facts of newer code, and adds their streams to `writer.unreadable`.

    So operators hear of them. Such a stream cannot be read before the search, either.
    """

    def __init__(self, runtime: Runtime, segments: Sequence[Segment]) -> None:
        self._runtime = runtime
        self._segments = segments
        self.facts: set[int] = set()
        """The positions of those found."""

    def warnings(self) -> list[str]:
        """Return the warnings for `/readyz` about fields that newer code may have recorded, and this code ignores."""
        return [
            f"newer code may have recorded, from position {after + 1} of the log on, fields that this version ignores: "
            f"{', '.join(fields)}. Facts that follow from such facts lack them: {NEXT_STEP}"
            for after, _, unknown in self._segments
            if (fields := known_fields(unknown, FACTS))
        ]

    async def run(self) -> None:
        """Search, then log one error if there is anything to warn of; return once the process is to end.

        If the log cannot be read, search again after RETRY_S (1 s); StoreError is not raised.
        """
        closing = self._runtime.closing
        for segment in self._segments:
            while not closing.is_set():
                try:
                    await self._search(segment)
                    break
                except StoreError as error:
                    logger.debug("facts of newer code cannot be searched for now", error=str(error))
                    await asyncio.sleep(RETRY_S)
        if self._segments and (told := self._runtime.writer.unreadable.of_newer_code() + self.warnings()):
            logger.error("a newer version wrote this log", facts=len(self.facts), reason="; ".join(told))
        await closing.wait()

    async def _search(self, segment: Segment) -> None:
        after = segment.after
        unreadable = self._runtime.writer.unreadable
        while after < segment.until and not self._runtime.closing.is_set():
            records = await self._runtime.store.select_notifications(after, CHUNK)
            for position, stream, version, topic, body in records:
                if position <= segment.until and (why := why_newer(topic, body)) is not None:
                    self.facts.add(position)
                    text = f"{fact_id(stream, version)} ({topic}) at position {position}: {why.what}"
                    unreadable.add(stream, text, newer=True, log=False)
            after = records[-1].position if records else segment.until
            await asyncio.sleep(0)
