"""Proves that the files of a generation, read back, are what the stream has and what the services recorded."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import NamedTuple

from infra.archive.lines import ArchivedMessage
from infra.archive.manifest import GenerationManifest, LogRange, NameCount
from infra.archive.reader import Archive
from ops import reading
from ops.errors import Found
from ops.foreign import KnownForeign
from ops.progress import Watch
from ops.reading import Read, Stream, of_message
from ops.stores import RecordedFacts


class _Positions:
    """Collects the positions of one service's log that a generation has, as runs (first, last); see LogRange.

    A generation may have many millions of positions, nearly all in rising order, so runs stay few.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[int, int]] = []
        self._facts = 0
        self._newest = (0, "")

    def add(self, position: int, fact_id: str) -> None:
        self._facts += 1
        if position >= self._newest[0]:
            self._newest = position, fact_id
        first, last = self._runs.pop() if self._runs else (position, position)
        if first <= position <= last + 1:
            self._runs.append((first, max(last, position)))
        else:
            self._runs += (first, last), (position, position)

    @property
    def range(self) -> LogRange:
        return LogRange(_joined(self._runs), self._facts, self._newest[1])


def _joined(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join runs of positions, in any order, that overlap or follow each other; return them in rising order."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


class MessageTally:
    """Counts the messages of a generation: all, those of each name (subject without key), and the foreign ones.

    Foreign messages count in all three. `logs`: service → which part of its log the messages that are not foreign have.
    """

    def __init__(self, known: KnownForeign) -> None:
        self._known = known
        self._positions: dict[str, _Positions] = {}
        self.names: dict[str, NameCount] = {}
        self.messages = 0
        self.foreign = 0

    def take(self, messages: Iterable[Read]) -> dict[str, list[tuple[Read, int, tuple[str, int]]]]:
        """Count these messages; return those that are not foreign, by service.

        Each is a tuple: the message, its fact's position in the service's log, and (stream, version).
        """
        facts: dict[str, list[tuple[Read, int, tuple[str, int]]]] = {}
        for message in messages:
            self.messages += 1
            name = message.subject.rpartition(".")[0]
            before = self.names[name].messages if name in self.names else 0
            self.names[name] = NameCount(before + 1, message.sequence, message.stored_ns // 1_000)
            where = self._known.judge(message).origin
            if where is None:
                self.foreign += 1
                continue
            service = message.subject.partition(".")[0]
            self._positions.setdefault(service, _Positions()).add(where.position, where.fact_id)
            facts.setdefault(service, []).append((message, where.position, (where.stream, where.version)))
        return facts

    @property
    def logs(self) -> dict[str, LogRange]:
        """Service → which part of its log the messages have; services without a message are left out."""
        return {service: self._positions[service].range for service in sorted(self._positions)}


class HistoryCopies(NamedTuple):
    """The copies of history beside the archive: the stream, and each service's log by service.

    `known`: the foreign messages that a person has acknowledged.
    """

    stream: Stream
    logs: Mapping[str, RecordedFacts]
    known: KnownForeign


async def prove(
    archive: Archive, manifest: GenerationManifest, copies: HistoryCopies, watch: Watch, *, again: bool = False
) -> None:
    """Read the files of the manifest back, and compare them with it, with the generation's stream, and with the logs.

    `again`: an earlier run proved the files. Then the stream may lack messages: a broker that lost power after the
    stream's deletion may have a part of it again. Raises Found, which says what differs, and that the stream stays;
    ArchiveDamaged, OSError; the errors of reading.
    """
    for file in manifest.files:
        found = await asyncio.to_thread(archive.place.described, manifest.stream, file)
        if found != file:
            raise _differs(manifest, f"{archive.place.where(manifest.stream, file)} is not what was written")
    watch.begins(f"comparing the files of {manifest.stream} with stream and logs", manifest.messages)
    tally = MessageTally(copies.known)
    async with (
        aclosing(reading.of_generation(copies.stream, manifest.stream)) as own,
        aclosing(_compared(_archived(archive, manifest), own, manifest, again=again)) as chunks,
    ):
        async for chunk in chunks:
            for service, facts in tally.take(chunk).items():
                await _check_log(manifest, service, facts, copies.logs)
            watch.advances(len(chunk))
    counted = (tally.messages, tally.foreign, tally.logs, tally.names)
    if counted != (manifest.messages, manifest.foreign, manifest.logs, manifest.names):
        raise _differs(manifest, "its files have other messages than its manifest says")


async def _archived(archive: Archive, manifest: GenerationManifest) -> AsyncGenerator[list[Read]]:
    found = archive.read(manifest)
    while (messages := await asyncio.to_thread(next, found, None)) is not None:
        yield [of_message(message) for message in messages]


async def _compared(
    files: AsyncIterator[list[Read]], stream: AsyncIterator[list[Read]], manifest: GenerationManifest, *, again: bool
) -> AsyncGenerator[list[Read]]:
    """Yield the messages of the files, in the lists of `files`, and compare them with those of the stream, in order.

    Raises Found if a message differs, or if one copy lacks a message of the other. `again`: the stream may lack some.
    """
    waiting: list[Read] = []
    async for messages in files:
        last = messages[-1].sequence
        while not waiting or waiting[-1].sequence < last:
            if (more := await anext(stream, None)) is None:
                break
            waiting += more
        its = [one for one in waiting if one.sequence <= last]
        del waiting[: len(its)]
        there = {one.sequence for one in its}
        mine = [one for one in messages if one.sequence in there] if again else messages
        if mine != its:
            differing = next((one for one, other in zip(its, mine, strict=False) if one != other), messages[-1])
            raise _differs(manifest, f"its files are not what the stream has at sequence {differing.sequence}")
        yield messages
    while not waiting and (more := await anext(stream, None)) is not None:
        waiting += more
    if waiting:
        raise _differs(manifest, f"its files lack sequence {waiting[0].sequence} of the stream")


async def _check_log(
    manifest: GenerationManifest,
    service: str,
    facts: Sequence[tuple[Read, int, tuple[str, int]]],
    logs: Mapping[str, RecordedFacts],
) -> None:
    log = logs.get(service)
    records = {} if log is None else {one.position: one for one in await log.find_all([fact[2] for fact in facts])}
    for message, position, its in facts:
        record = records.get(position)
        recorded = record and (record.originator_id, record.originator_version, record.topic, record.state)
        if recorded != (*its, message.subject.rpartition(".")[0], message.body):
            raise _differs(
                manifest,
                f"{message.fact_id} at sequence {message.sequence} is not what {service}_svc's log has at position "
                f"{position}: just audit says which one is right",
            )


def _differs(manifest: GenerationManifest, what: str) -> Found:
    return Found(f"the stream {manifest.stream} stays: {what}")


def as_archived(messages: Iterable[Read]) -> Iterable[ArchivedMessage]:
    """Convert messages from the form in which they are read to that in which the archive keeps them, one by one."""
    return (ArchivedMessage(one.sequence, one.subject, one.body, one.head, one.stored_ns) for one in messages)
