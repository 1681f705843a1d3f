"""`orders archive --copy-to`: the archive in another place, such as a bucket, generation by generation."""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from infra import files
from infra.archive.errors import ArchiveDamaged, ArchiveTaken, ArchiveUnreachable
from infra.archive.manifest import ArchivedFile, GenerationManifest, file_name
from infra.archive.reader import Archive
from infra.archive.writing import described
from infra.broker.floor import archive_of
from infra.settings import Settings, SettingsError, load
from ops.archive.archiving import archive_lock, lock_folder
from ops.errors import Found, Unreachable
from ops.progress import Watch

PIECE: Final = 8 << 20  # bytes


async def copy(env: Mapping[str, str], to: str, through: str | None, watch: Watch) -> list[str]:
    """Copy the archive of `env` to another place; return the names of the generations that it copied.

    `to`: a bucket as s3://bucket/prefix, or a folder. `through`: the name of the last generation to copy; None: all.
    The copies are read back. A generation that already has a manifest in the other place is not copied again. Raises
    SettingsError, Found (the archive is damaged, or another one is in that place), Unreachable; a generation that was
    copied only in part has no manifest there.
    """
    source = load(Settings, "nats", 4_222, env)
    place = {"ARCHIVE_URL": to, "ARCHIVE_DIR": ""} if "://" in to else {"ARCHIVE_URL": "", "ARCHIVE_DIR": to}
    target = load(Settings, "nats", 4_222, {**env, **place})
    if archive_of(source).place.title == archive_of(target).place.title:
        raise SettingsError(f"the archive is in {to} already: name another place, or set where it is to be copied from")
    with ExitStack() as locks:
        for settings in {lock_folder(one): one for one in (source, target)}.values():
            locks.enter_context(archive_lock(settings))
        try:
            return await asyncio.to_thread(_copy, archive_of(source), archive_of(target), through, watch)
        except ArchiveUnreachable as error:
            raise Unreachable(str(error)) from error
        except (ArchiveDamaged, ArchiveTaken) as error:
            raise Found(str(error)) from error


def _copy(source: Archive, target: Archive, through: str | None, watch: Watch) -> list[str]:
    source.look()
    target.look()
    names = [one.stream for one in source.manifests]
    if through is not None and through not in names:
        raise SettingsError(f"{through} is not in the archive {source.place.title}: see just stream ls")
    wanted = source.manifests if through is None else source.manifests[: names.index(through) + 1]
    for one in target.manifests:
        if one.stream not in names or source.digest_of(one.number) != target.digest_of(one.number):
            raise Found(f"{target.place.title} has another archive, with another {one.stream}: name an empty place")
    missing = [one for one in wanted if target.of(one.number) is None]
    for manifest in missing:
        watch.begins(f"copying {manifest.stream}", sum(file.bytes for file in manifest.files))
        _copy_generation(source, target, manifest, watch)
    return [one.stream for one in missing]


def _copy_generation(source: Archive, target: Archive, manifest: GenerationManifest, watch: Watch) -> None:
    stream = manifest.stream
    folder = target.place.writing_folder(stream)
    files.make_folder(folder)
    for file in manifest.files:
        path = folder / file.name
        with path.open("wb") as copied:
            for offset in range(0, file.bytes, PIECE):
                copied.write(source.place.read_range(stream, file, offset, PIECE))
                watch.advances(min(PIECE, file.bytes - offset))
        path.chmod(files.PRIVATE)
        files.sync_file(path)
        _check(source, stream, file, described(path))
    files.sync_folder(folder)
    target.place.add(stream, manifest.files)
    for file in manifest.files:
        _check(target, stream, file, target.place.described(stream, file))
    (content,) = source.place.read_manifests([file_name(stream)])
    target.place.publish(file_name(stream), content)


def _check(archive: Archive, stream: str, file: ArchivedFile, found: ArchivedFile) -> None:
    if found != file:
        where = archive.place.where(stream, file)
        raise Found(f"{where} is not what its manifest says: {stream} was not copied")
