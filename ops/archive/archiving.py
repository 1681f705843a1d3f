"""Archives sealed generations, the oldest first: writes files, proves them, writes the manifest, deletes the stream.

A run that is killed leaves each generation that it began in one of three states. It may have files without a manifest:
the next run writes them anew. It may have a manifest and its stream: the next run proves the files again and deletes
the stream. Or its stream is deleted, and it is done. A stream is deleted only in a run that has proven its files, only
if the archive has all generations before it, and only once the label of all later streams says which archive has it.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from infra import files
from infra.archive.errors import ArchiveTaken
from infra.archive.manifest import FORMAT, GenerationManifest, chain_of, encoded, file_name, missing_before
from infra.archive.reader import Archive
from infra.archive.writing import FileWriter
from infra.broker import archive_label
from infra.broker.floor import archive_of, look_if_behind
from infra.broker.generations import find_generations, generation_numbers
from infra.broker.numbering import first_sequence, number_of, stream_name
from infra.files import LockTaken, exclusive_lock, lock_holder
from infra.local.services import service_names
from infra.settings import Settings, SettingsError, load
from ops import foreign, reading, stores
from ops.archive.proof import HistoryCopies, MessageTally, as_archived, prove
from ops.archive.readiness import ListenerConsumers, listeners, why_not
from ops.errors import Found
from ops.foreign import KnownForeign
from ops.progress import Watch


class ArchivedGeneration(Struct):
    """A generation that this run has archived: how many messages it has, and the bytes of its stream and its files."""

    stream: str
    messages: int
    stream_bytes: int
    archive_bytes: int


class Archived(Struct):
    """The result of a run.

    `place`: the folder or bucket of the archive. `archived`: the generations whose files this run wrote and proved.
    `deleted`: the names of the streams that it deleted. `kept`: name of a stream → why it stays, each reason with the
    next step. It has the first one that cannot be archived, and archived ones that must stay; not the newest stream,
    nor others. `possible`: only of a dry run, the names of the streams that it would have archived.
    """

    place: str
    archived: list[ArchivedGeneration] = []
    deleted: list[str] = []
    kept: dict[str, list[str]] = {}
    possible: list[str] = []


async def archive(env: Mapping[str, str], watch: Watch, *, dry_run: bool = False) -> Archived:
    """Archive generations, the oldest first, until one cannot be archived; then delete the archived streams.

    Streams that earlier runs archived are deleted, too. The newest generation always stays. `dry_run`: only say which
    could be archived, and why the next one has to stay. A dry run makes no file but copies of a bucket's files in its
    cache, if it has to read them. Raises SettingsError (another run is at work, or the folder cannot be used),
    NoForeignFile, Unreachable, Found (the files are not what stream and logs have, a stream changed, or another machine
    archived it). After an error each stream that is not deleted yet stays; the next run deletes those of archived
    generations.
    """
    settings = load(Settings, "nats", 4_222, env)
    with archive_lock(settings, look=dry_run):
        async with contextlib.AsyncExitStack() as stack:
            logs = {name: await stack.enter_async_context(stores.log(env, name)) for name in service_names()}
            stream = await stack.enter_async_context(reading.stream(env))
            known = KnownForeign.read(foreign.path(env))
            copies, heard_by = HistoryCopies(stream, logs, known), list(listeners(env))
            return await archive_closed(copies, archive_of(settings), heard_by, watch, dry_run=dry_run)


async def archive_closed(
    copies: HistoryCopies,
    archive: Archive,
    heard_by: Sequence[ListenerConsumers],
    watch: Watch,
    *,
    dry_run: bool = False,
) -> Archived:
    """Do what the function `archive` does, into the parameter `archive`, under a lock that the caller holds.

    `heard_by`: the listeners that must have heard a generation before it is archived. Raises Found; the errors of
    reading logs, archive and stream.
    """
    return await _Run(copies, archive, heard_by, watch).run(dry_run=dry_run)


def lock_folder(settings: Settings) -> Path:
    """Return the folder whose lock an archiver holds: the archive's, or if that is in a bucket, its cache's."""
    return settings.archive_cache if settings.archive_bucket else settings.archive


async def forget(env: Mapping[str, str]) -> None:
    """Remove the archive's label from all streams, after the archive was lost for good.

    Services that are restarted then publish again what the archive had. Raises SettingsError if the archive that `env`
    names has a generation, if an archiver runs, or if the folder cannot be used; Unreachable.
    """
    settings = load(Settings, "nats", 4_222, env)
    with archive_lock(settings):
        async with reading.stream(env) as stream:
            archive = archive_of(settings)
            await asyncio.to_thread(archive.look)
            if there := archive.manifests:
                raise SettingsError(
                    f"the archive {archive.place.title} has {there[-1].stream}: nothing was forgotten. Set "
                    f"{archive.place.setting} to it in all services; or, if the rest of the archive is lost, move this "
                    "away first"
                )
            await archive_label.remove(stream.js, [stream_name(one) for one in await generation_numbers(stream.nc)])


@contextlib.contextmanager
def archive_lock(settings: Settings, *, look: bool = False) -> Iterator[None]:
    """Hold the lock of `lock_folder` during the block, without waiting for it.

    Raises SettingsError if another process holds the lock, and in place of the block's OSError (not BrokenPipeError) or
    sqlite3.Error. `look`: only look whether somebody holds the lock; make nothing. The lock keeps no archiver on
    another machine away from a bucket: of two manifests for one generation, the bucket takes the first.
    """
    folder = lock_folder(settings)
    try:
        if not look:
            files.make_private_folder(folder)
        with (_unlocked if look else exclusive_lock)(folder / ".lock"):
            yield
    except LockTaken as holder:
        raise SettingsError(f"{holder} archives into {folder} already: wait until it has ended") from None
    except BrokenPipeError:  # of the command's output, whose reader is gone
        raise
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise SettingsError(f"{error.filename or folder} cannot be used: {why}") from error
    except sqlite3.Error as error:
        raise SettingsError(f"an index in {folder} cannot be written: {error}") from error


@contextlib.contextmanager
def _unlocked(lock: Path) -> Iterator[None]:
    """Run the block without the lock; first raise LockTaken if somebody holds it. Its file may be missing.

    Raises OSError if the file cannot be read.
    """
    with contextlib.suppress(FileNotFoundError):
        if (holder := lock_holder(lock)) is not None:
            raise LockTaken(holder)
    yield


class _Run:
    def __init__(
        self, copies: HistoryCopies, archive: Archive, heard_by: Sequence[ListenerConsumers], watch: Watch
    ) -> None:
        self._copies = copies
        self._stream = copies.stream
        self._archive = archive
        self._heard_by = heard_by
        self._watch = watch
        self._proven: set[str] = set()
        self._done = Archived(archive.place.title, [], [], {}, [])

    async def run(self, *, dry_run: bool) -> Archived:
        infos = await find_generations(self._stream.nc, self._stream.js)
        await asyncio.to_thread(self._archive.look)
        await look_if_behind(self._stream.nc, self._archive, infos)
        for info in infos[:-1]:
            name = str(info.config.name)
            if self._archive.of(number_of(name) or 0) is None:
                if reasons := await self._why_not(info):
                    self._done.kept[name] = reasons
                    break
                if dry_run:
                    self._done.possible.append(name)
                else:
                    await self._write(info)
        for info in infos[:-1]:
            manifest = self._archive.of(number_of(str(info.config.name)) or 0)
            if manifest is not None and not dry_run:
                await self._delete(info, manifest)
        return self._done

    async def _why_not(self, info: StreamInfo) -> list[str]:
        name = str(info.config.name)
        if (number_of(name) or 0) < self._archive.first_kept:
            return [
                "the archive went on without it when the broker had lost it: the services have published again what "
                f"it had. Audit, then delete it (just audit --full; nats stream rm {name})"
            ]
        return await why_not(self._heard_by, self._stream, info, self._copies.logs["order"], self._watch)

    async def _write(self, info: StreamInfo) -> None:
        """Write the files of a generation, prove them, and write the manifest: from then on it is archived."""
        draft = await self._files(info)
        await self._prove(draft)
        await self._still_the_same(info)  # a broker that lost it while this run hung gets all of it again, as another
        try:
            await asyncio.to_thread(self._archive.place.publish, file_name(draft.stream), encoded(draft))
        except ArchiveTaken as error:
            raise Found(f"{draft.stream} stays: {error}") from error
        await asyncio.to_thread(self._archive.look)
        size = sum(file.bytes for file in draft.files)
        self._done.archived.append(ArchivedGeneration(draft.stream, draft.messages, info.state.bytes, size))

    async def _files(self, info: StreamInfo) -> GenerationManifest:
        """Write the files of a generation, and return its manifest.

        Both are not proven yet. The caller proves the files, and only then writes the manifest.
        """
        name, state = str(info.config.name), info.state
        tally = MessageTally(self._copies.known)
        self._watch.begins(f"writing the files of {name}", state.messages)
        with FileWriter(self._archive.place.writing_folder(name)) as writer:
            async with aclosing(reading.of_generation(self._stream, name)) as chunks:
                async for chunk in chunks:
                    tally.take(chunk)
                    writer.add(as_archived(chunk))
                    self._watch.advances(len(chunk))
            written = writer.finish()
        await asyncio.to_thread(self._archive.place.add, name, written)
        number, previous = number_of(name) or 0, self._archive.last_digest
        return GenerationManifest(
            format=FORMAT,
            number=number,
            stream=name,
            created=str(info.created),
            archived_at=datetime.now(UTC).isoformat(),
            first_sequence=state.first_seq,
            last_sequence=state.last_seq,
            messages=tally.messages,
            foreign=tally.foreign,
            removed=state.last_seq - first_sequence(number) + 1 - state.messages,
            logs=tally.logs,
            names=tally.names,
            files=written,
            previous=previous,
            chain=chain_of(previous, written),
        )

    async def _prove(self, manifest: GenerationManifest, *, again: bool = False) -> None:
        await prove(self._archive, manifest, self._copies, self._watch, again=again)
        self._proven.add(manifest.stream)

    async def _still_the_same(self, info: StreamInfo) -> None:
        """Raise Found if the stream has changed since this run began, is another one, or is not sealed.

        Raises also the client's errors.
        """
        now = await self._stream.js.stream_info(str(info.config.name))
        if _state(now) != _state(info) or not now.config.sealed:
            raise Found(f"{now.config.name} has changed since it was read, and stays: just audit --full")

    async def _delete(self, info: StreamInfo, manifest: GenerationManifest) -> None:
        """Delete the stream of an archived generation; first prove its files, unless this run has.

        If the archive lacks a generation before it, keep the stream, with the reason in `kept`. Raises Found, and what
        `prove` raises.
        """
        if lacks := missing_before(self._archive.manifests, manifest):
            self._done.kept[manifest.stream] = [
                f"it is archived, but its stream stays: the archive lacks {lacks[0]}, which a later generation "
                "has: that one is archived first"
            ]
            return
        if manifest.stream not in self._proven:
            await self._prove(manifest, again=True)
        try:
            await self._delete_proven(info, manifest)
        except NotFoundError:  # an archiver on another machine has deleted it
            return
        self._done.deleted.append(manifest.stream)

    async def _delete_proven(self, info: StreamInfo, manifest: GenerationManifest) -> None:
        await self._still_the_same(info)
        there = await find_generations(self._stream.nc, self._stream.js)
        await look_if_behind(self._stream.nc, self._archive, there)  # another machine may archive into another folder
        later = [str(one.config.name) for one in there if (number_of(str(one.config.name)) or 0) > manifest.number]
        await archive_label.put(self._stream.js, later, self._archive, manifest)
        await self._stream.js.delete_stream(manifest.stream)


def _state(info: StreamInfo) -> tuple[str, int, int, int]:
    return str(info.created), info.state.messages, info.state.first_seq, info.state.last_seq
