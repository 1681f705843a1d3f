"""Makes a backup beside the running system: a folder that is there whole or not at all."""

import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from infra import files
from infra.archive.errors import ArchiveDamaged, ArchiveUnreachable
from infra.archive.manifest import WAY_OUT, ArchivedFile, file_name
from infra.archive.reader import Archive
from infra.archive.writing import described
from infra.broker.acknowledged import NAME
from infra.broker.floor import archive_of
from infra.broker.generations import generation_numbers
from infra.broker.numbering import stream_name
from infra.consuming.dead_letter import DEAD
from infra.local.services import service_names
from infra.settings import Settings, SettingsError, load
from ops import foreign, reading, stores
from ops.backup import manifest, store_copies, stream_snapshots
from ops.backup.manifest import Manifest, StreamSnapshot
from ops.errors import Found, Unreachable
from ops.progress import Watch


async def backup(env: Mapping[str, str], folder: Path, watch: Watch, *, stores_only: bool = False) -> Manifest:
    """Back up the system of `env` into `folder`, which must be missing or empty; return the manifest.

    The streams' snapshots come first: a fact is recorded before it is published, so the copies of the stores have every
    fact that the snapshots have. `stores_only`: without streams and archive; after a restore the services publish
    what the stream lacks.

    Raises SettingsError (also if the folder cannot be used), Unreachable, Found (a store or the archive is damaged).
    The folder never has a part of a backup.
    """
    unfinished = _unfinished(folder)
    try:
        snapshots: dict[str, StreamSnapshot] = {}
        versions = {"python": sys.version.partition(" ")[0], "sqlite": sqlite3.sqlite_version}
        if not stores_only:
            async with reading.stream(env) as stream:
                versions["nats-server"] = str(stream.nc.connected_server_version)
                numbers = await generation_numbers(stream.nc)
                if numbers:
                    await reading.kept_generations(stream)  # only to compare: without the archive it is no backup
                for name in (*map(stream_name, numbers), DEAD):
                    watch.begins(f"taking a snapshot of the stream {name}", 0)
                    snapshot = await stream_snapshots.take(stream, name, unfinished / name)
                    if snapshot is not None:
                        snapshots[name] = snapshot
        watch.begins("copying the stores", 0)
        copies = store_copies.copy_all({name: stores.store(env, name) for name in service_names()}, unfinished)
        _copy_acknowledged(env, unfinished)
        archived = [] if stores_only else _copy_archive(env, unfinished / manifest.ARCHIVE, watch)
        bucket = str(load(Settings, "nats", 4_222, env).archive_bucket or "") if archived else ""
        watch.begins("computing checksums", 0)
        paths = sorted(path for path in unfinished.rglob("*") if path.is_file())
        checksums = {str(path.relative_to(unfinished)): manifest.checksum(path) for path in paths}
        made = Manifest(manifest.FORMAT, datetime.now(UTC), copies, snapshots, checksums, versions, archived, bucket)
        manifest.write(unfinished, made)
        files.rename(unfinished, folder)
        files.sync_folder(folder.parent)
        return made
    except OSError as error:
        raise SettingsError(f"{error.filename or folder} cannot be used: {error.strerror}") from error
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(unfinished)


def _copy_acknowledged(env: Mapping[str, str], unfinished: Path) -> None:
    """Copy the file of the acknowledged foreign messages, if there is one."""
    copy = unfinished / NAME
    with suppress(FileNotFoundError):
        shutil.copyfile(foreign.path(env), copy)
        copy.chmod(files.PRIVATE)
        files.sync_file(copy)


def _copy_archive(env: Mapping[str, str], folder: Path, watch: Watch) -> list[str]:
    """Copy the archived generations into `folder`, and return their names. Call it after the streams' snapshots.

    So a generation that leaves the broker meanwhile is in the snapshots, in the archive, or in both. Of an archive in a
    bucket only the manifests are copied. Each other copied file is compared with its manifest. Raises Found if the
    archive is damaged, Unreachable if its bucket does not answer; OSError.
    """
    archive = archive_of(load(Settings, "nats", 4_222, env))
    try:
        archive.look()
        manifests = archive.manifests
        contents = archive.place.read_manifests([file_name(one.stream) for one in manifests])
        for one, content in zip(manifests, contents, strict=True):
            watch.begins(f"copying the archived generation {one.stream}", 0)
            files.make_folder(folder)
            files.write(folder / file_name(one.stream), content)
            (folder / file_name(one.stream)).chmod(files.PRIVATE)
            if not archive.place.near:
                continue
            files.make_folder(folder / one.stream)
            for file in one.files:
                _copy_file(archive, one.stream, file, folder / one.stream / file.name)
            files.sync_folder(folder / one.stream)
    except ArchiveUnreachable as error:
        raise Unreachable(f"no backup was made: {error}") from error
    except ArchiveDamaged as error:
        raise Found(f"no backup was made: {error}") from error
    return [one.stream for one in manifests]


def _copy_file(archive: Archive, stream: str, file: ArchivedFile, copy: Path) -> None:
    """Copy a file of an archived generation, durably. Raises ArchiveDamaged if it is missing or has changed; OSError.

    The archive has the only copy of these messages, so a backup of damaged messages must not pass for a good one.
    """
    where = archive.place.where(stream, file)
    try:
        shutil.copyfile(archive.place.whole(stream, file), copy)
    except FileNotFoundError as error:
        raise ArchiveDamaged(f"{where} is missing. {WAY_OUT}") from error
    copy.chmod(files.PRIVATE)
    files.sync_file(copy)
    if described(copy) != file:
        raise ArchiveDamaged(f"{where} is not what its manifest says. {WAY_OUT}")


def _unfinished(folder: Path) -> Path:
    """Make and return a temporary folder, beside `folder`, in which the backup is made first.

    Raises SettingsError if it cannot be made, or if `folder` is a file or not empty.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SettingsError(
                f"{folder} is not empty: a backup needs a folder of its own. Name one that is not there"
            )
        files.make_folder(folder.parent)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=files.TEMPORARY, dir=folder.parent))
    except OSError as error:
        raise SettingsError(f"{folder} cannot be used: {error.strerror}") from error
