"""Reads the stream for the pages that need it: one connection, made when the first of them asks, and again if lost.

It asks for messages by their subjects, and for what streams there are and hold: it makes no consumer.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Final

from nats.errors import Error as NatsError

from infra.broker.client import BrokerClient
from infra.broker.connection import INBOXES, connect
from infra.broker.errors import ArchiveUnusable, BrokerError, HistoryUnavailable
from infra.broker.floor import archive_of, is_archived
from infra.broker.generations import generation_numbers
from infra.broker.lookup import archived_messages, latest_messages
from infra.broker.numbering import stream_name
from infra.broker.stored import StoredMessage
from infra.broker.troubles import denied, describe
from infra.consuming.dead_letter import PREFIX, DeadLetter
from infra.consuming.redrive_notes import RedriveNote, by_letter
from infra.consuming.stored_dead_letters import read, read_notes
from infra.local.dashboard import NAME
from infra.settings import Settings
from ops.errors import Unreachable

ANSWER_S: Final = 3.0
"""A broker that has not answered within so many seconds is told as one that cannot be asked."""

ALL_LETTERS: Final = f"{PREFIX}.>"
"""The subject of all dead letters."""

MOST_LETTERS: Final = 1_000
"""Dead letters that a page shows; `just dlq ls` lists all."""


class StreamReader:
    """Reads messages of the stream, of all its generations and the archive, and dead letters."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connected: tuple[BrokerClient, asyncio.Event] | None = None
        self._stack = AsyncExitStack()
        self._connecting = asyncio.Lock()
        self._stopping = asyncio.Event()
        self.generations: Sequence[int] = ()
        """The generations that the broker had at the last look; empty before any."""

    async def latest(self, subjects: Sequence[str], begin: str) -> list[StoredMessage]:
        """Return the last message that a service published on each of these subjects, sorted by sequence.

        A subject without one is left out. `subjects` have no wildcards. `begin`: the subject of the first of these
        messages. If the broker's streams lack it, the archive is read, too.
        Raises Unreachable if the broker or the archive cannot be read.
        """
        async with self._asking() as nc:
            self.generations = numbers = await generation_numbers(nc)
            streams = [stream_name(number) for number in reversed(numbers)]
            found = {one.subject: one for one in await latest_messages(nc, subjects, streams)}
        if begin not in found:
            found = await self._archived(subjects, numbers) | found
        return sorted(found.values(), key=lambda one: one.sequence)

    async def _archived(self, subjects: Sequence[str], numbers: Sequence[int]) -> dict[str, StoredMessage]:
        """Return subject → its last archived message. `numbers`: the generations that the broker has, the oldest first.

        Raises Unreachable if the archive cannot be read.
        """
        try:
            if numbers:
                await is_archived(self._settings, numbers[0] - 1)  # looks, if a bucket has more than is known
            return {one.subject: one for one in await archived_messages(archive_of(self._settings), subjects)}
        except (ArchiveUnusable, HistoryUnavailable) as error:
            raise Unreachable(str(error)) from error

    async def dead_letters(self, subject: str, *, whole: bool, most: int = MOST_LETTERS) -> list[DeadLetter]:
        """Return the first `most` dead letters under this subject of DEAD (wildcards are allowed), the oldest first.

        Without `whole` they lack their bodies and stacks. Raises Unreachable.
        """
        found: list[DeadLetter] = []
        async with self._asking() as nc, aclosing(read(nc, subject, whole=whole)) as letters:
            async for one in letters:
                found.append(one)
                if len(found) == most:
                    break
        return found

    async def redrives(self) -> dict[int, RedriveNote]:
        """Return a dead letter's sequence of DEAD → how often, and why, it was redriven in vain. Raises Unreachable."""
        async with self._asking() as nc:
            return by_letter([note async for note in read_notes(nc)])

    async def close(self) -> None:
        self._stopping.set()
        await self._stack.aclose()

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[BrokerClient]:
        """Yield a client, which is connected if need be. A broker's error in the block raises Unreachable.

        So does a block that takes longer than ANSWER_S (3 s), connecting included.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                yield await self._client()
        except (TimeoutError, OSError, NatsError, BrokerError) as error:
            at = self._settings.brokers[0].at
            why = denied(denials) if (denials := self._denials()) else error
            raise Unreachable(f"the broker at {at} cannot be read: {describe(why)}") from error

    def _denials(self) -> Sequence[str]:
        """Return what the broker has denied the connection; empty: nothing.

        If it denied something, the next request connects again, because it may be granted then.
        """
        denials = self._connected[0].denied if self._connected is not None else ()
        if denials:
            self._connected = None
        return denials

    async def _client(self) -> BrokerClient:
        async with self._connecting:
            if self._connected is None or self._connected[1].is_set():
                self._connected = None
                with suppress(OSError, NatsError, TimeoutError):
                    await self._stack.aclose()
                self._stack = AsyncExitStack()
                self._connected = await self._stack.enter_async_context(
                    connect(self._settings, NAME, self._stopping, inboxes=f"{INBOXES}.{NAME}")
                )
            return self._connected[0]
