"""Reads the archived messages that a view of the stream has not read; a new or rebuilt view has read none.

A view keeps a checkpoint for each of its consumers on each generation, also after the generation is archived. If that
checkpoint is at the archive's last message of the consumer's fact, the view has read all such messages there.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from contracts.origin import header
from contracts.wire import MSG_ID
from infra.archive.errors import ArchiveDamaged
from infra.archive.lines import ArchivedMessage
from infra.archive.manifest import GenerationManifest, NameCount
from infra.archive.reader import Archive
from infra.broker.consumers import ConsumerPlace
from infra.broker.errors import ArchiveUnusable
from infra.core.messages import Delivery, StreamPosition
from infra.read_models.tables import Checkpoint, Tables

_MSG_ID: Final = MSG_ID.encode()


class ArchivedFacts:
    """What the archive has for one view that the view has not read."""

    def __init__(self, archive: Archive, names: Mapping[str, str | None], tables: Tables) -> None:
        """`names` is what `consumer_names` returns for the view: each consumer's fact name; None: all facts."""
        self._archive = archive
        self._names = names
        self._tables = tables
        self.left = 0
        """About how many messages are to be read: at most so many. 0: none."""

    async def look(self) -> None:
        """Set `left`: at most so many messages are unread. Raises ArchiveUnusable if the archive cannot be used.

        A consumer that has not read all of its messages in a generation counts with all of its messages there.
        """
        try:
            unread = [self._unread(manifest) for manifest in self._archive.manifests]
        except ArchiveDamaged as error:
            raise ArchiveUnusable(str(error)) from error
        self.left = sum(count.messages for counts in unread for count in counts.values())

    async def chunks(self) -> AsyncIterator[tuple[list[Delivery], dict[str, Checkpoint]]]:
        """Yield the unread messages in lists, the oldest generation first, and the checkpoints to set with each list.

        The checkpoints are by the key of the ConsumerPlace. Some messages that the view has read may be among them.
        `left` falls with each list, but not below 1 before the end; then it is 0. Raises ArchiveUnusable if the archive
        cannot be used.
        """
        try:
            for manifest in self._archive.manifests:
                if unread := self._unread(manifest):
                    async for messages in self._read(manifest, unread):
                        self.left = max(1, self.left - len(messages))
                        yield [_delivery(message) for message in messages], self._read_there(manifest, messages)
        except ArchiveDamaged as error:
            raise ArchiveUnusable(str(error)) from error
        self.left = 0

    async def _read(
        self, manifest: GenerationManifest, unread: Mapping[str, NameCount]
    ) -> AsyncIterator[list[ArchivedMessage]]:
        facts = [self._names[name] for name in unread]
        first = min(self._checkpoint(manifest, name, count).position for name, count in unread.items()) + 1
        subjects = [] if None in facts else [f"{fact}.*" for fact in facts]
        chunks = self._archive.read(manifest, subjects, first)
        while (messages := await asyncio.to_thread(next, chunks, None)) is not None:
            if messages:
                yield messages

    def _unread(self, manifest: GenerationManifest) -> dict[str, NameCount]:
        """Return, by consumer name, what a generation has for it; without consumers whose messages are all read."""
        found: dict[str, NameCount] = {}
        for name, fact in self._names.items():
            count = manifest.names.get(fact) if fact is not None else _all(manifest)
            if count and self._checkpoint(manifest, name, count) != (count.last, count.stored_us):
                found[name] = count
        return found

    def _checkpoint(self, manifest: GenerationManifest, name: str, count: NameCount) -> Checkpoint:
        """Return the consumer's checkpoint on this generation; START if it cannot be of the archived messages.

        That is so if it is at or after the last of them (`count`), but not equal to it. An earlier checkpoint is not
        compared with the archive.
        """
        checkpoint = self._tables.checkpoint_of(ConsumerPlace(manifest.stream, name).key)
        other = checkpoint.position >= count.last and checkpoint != (count.last, count.stored_us)
        return Checkpoint(0) if other else checkpoint

    def _read_there(self, manifest: GenerationManifest, messages: list[ArchivedMessage]) -> dict[str, Checkpoint]:
        """Return, by place key, the checkpoints after these messages, of consumers that would have got one of them."""
        last = {message.subject.rpartition(".")[0]: message for message in messages}
        found = {}
        for name, fact in self._names.items():
            message = messages[-1] if fact is None else last.get(fact)
            if message is not None:
                key = ConsumerPlace(manifest.stream, name).key
                found[key] = Checkpoint(message.sequence, message.stored_ns // 1_000)
        return found


def _all(manifest: GenerationManifest) -> NameCount | None:
    last = max(manifest.names.values(), key=lambda count: count.last, default=None)
    return None if last is None else NameCount(manifest.messages, last.last, last.stored_us)


def _delivery(message: ArchivedMessage) -> Delivery:
    its_id = header(message.head, _MSG_ID)
    position = StreamPosition(message.sequence, message.stored_ns // 1_000)
    return Delivery(its_id, message.body, "", position, message.subject, message.head)
