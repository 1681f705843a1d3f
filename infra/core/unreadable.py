"""The streams of a service that could not be read: `/readyz` and the log tell of them."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import structlog

from contracts.newer import NEXT_STEP
from infra.core.errors import StreamUnavailable

logger = structlog.get_logger()

MOST: Final = 10_000
"""The most streams that are remembered of newer code, and of damaged ones; further ones are not counted."""


class UnreadableStreams:
    """Remembers, until the process ends, which streams could not be read, and why.

    It only tells of them: no read is refused because of it.
    """

    def __init__(self) -> None:
        self._newer: dict[str, str] = {}
        self._damaged: dict[str, str] = {}

    def add(self, stream: str, why: str, *, newer: bool, log: bool = True) -> None:
        """Remember a stream. With `log`, log it as an error, but only if it was not remembered before.

        At most MOST streams of newer code and MOST damaged ones are remembered; a further one is not logged either.
        `why` is shown to operators. `newer`: newer code recorded a fact of the stream; otherwise it is damaged.
        """
        known = self._newer if newer else self._damaged
        if stream in known or len(known) >= MOST:
            return
        known[stream] = why
        if log:
            logger.error("a stream cannot be read: what needs it is refused", stream=stream, reason=why)

    def warnings(self) -> list[str]:
        """Return the warnings for `/readyz`: one about newer code, one about damage, each if there is such a stream."""
        return [*self.of_newer_code(), *self._of_damage()]

    def of_newer_code(self) -> list[str]:
        """Return the warning about streams with a fact of newer code; empty if there is no such stream."""
        if not self._newer:
            return []
        return [
            f"newer code recorded facts that this version does not know, in {len(self._newer)} streams; the first: "
            f"{next(iter(self._newer.values()))}. Requests and messages that need one of these streams are refused, "
            f"all others work: {NEXT_STEP}"
        ]

    def _of_damage(self) -> list[str]:
        if not self._damaged:
            return []
        stream, why = next(iter(self._damaged.items()))
        return [
            f"{len(self._damaged)} streams cannot be read; the first: {stream}: {why}. What needs one of them is "
            "refused, all else works. `just audit` says what is damaged, `just rebuild` makes the store anew"
        ]


class Reader(Protocol):
    async def read(self, streams: Sequence[str]) -> list[Any]: ...


async def read_readable(reader: Reader, streams: Sequence[str]) -> list[Any]:
    """Return the states of these streams as `reader.read` does, but None for a stream that cannot be read.

    For lists: one unreadable stream must not hide all others. Raises StoreUnavailable if the store cannot be read now,
    or reads are suspended.
    """
    try:
        return await reader.read(streams)
    except StreamUnavailable:
        return [await _one(reader, stream) for stream in streams]


async def _one(reader: Reader, stream: str) -> Any:
    try:
        (state,) = await reader.read([stream])
    except StreamUnavailable:
        return None
    return state
