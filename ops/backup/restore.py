"""Puts a backup in the place of stopped services' stores and of the bundled broker's files.

Everything is made first, and audited if streams are restored, in a new folder inside each of DATA_DIR, ARCHIVE_DIR and
the broker's folder: each may be the root of a file system, out of which nothing can be renamed. Only then the old data
is moved aside, and the new data into its place, as one change.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct

from infra import files
from infra.archive.errors import ArchiveDamaged, ArchiveUnreachable
from infra.archive.manifest import digest, file_name
from infra.broker.acknowledged import NAME
from infra.broker.floor import archive_of
from infra.local.nats import run_nats, store_folder
from infra.local.ports import free_ports, is_free
from infra.local.processes import StartFailed
from infra.local.services import service_names
from infra.settings import Settings, SettingsError, load
from ops import data, foreign, reading
from ops.audit.run import Options, audit
from ops.backup import manifest, stream_snapshots
from ops.backup.manifest import Manifest
from ops.backup.moves import HalfMoved, Move, move_all
from ops.errors import Found, RecordedByNewerCode, Unreachable
from ops.progress import Watch


class Restored(Struct):
    """The result of a restore. `made_at`: when the backup was made.

    `stores`: service → how many facts its store has. `streams`: name → how many messages the restored stream has.
    `findings`: what the audit found in the backup, as texts; null: there was no audit, because no stream was restored.
    `aside`: the paths to which the old data was moved.
    """

    made_at: datetime
    stores: dict[str, int]
    streams: dict[str, int]
    findings: list[str] | None
    aside: list[Path]


class Accepted(Struct, frozen=True):
    """What an operator accepts. `replace`: existing data is moved aside; otherwise it makes the restore fail.

    `findings`: the backup may have findings of the audit, and facts of newer code.
    """

    replace: bool = False
    findings: bool = False


class _Made(NamedTuple):
    """What was made beside the data: the number of messages of each stream, and the audit's findings (see Restored)."""

    streams: dict[str, int]
    findings: list[str] | None


class _Places(NamedTuple):
    """The folders of the services' data, of the archive, and of the bundled broker.

    `broker` None: NATS_URL names another broker.
    """

    data: Path
    archive: Path
    broker: Path | None

    def made(self) -> "_Places":
        """Return the folders inside these places (`.restoring`) in which a restore first makes the new data."""
        broker = self.broker and self.broker / data.RESTORING
        return _Places(self.data / data.RESTORING, self.archive / data.RESTORING, broker)


HAS_DATA: Final = (
    "has data already. To restore another place, set DATA_DIR; to move this data aside and replace it: --yes"
)


async def restore(env: Mapping[str, str], folder: Path, watch: Watch, accepted: Accepted) -> Restored:
    """Restore the backup in `folder` as the data of `env`.

    With NATS_URL set, the broker's streams are left as they are. Without it they are replaced, even if the backup has
    no streams. Raises SettingsError (data exists, a folder cannot be used, a broker runs on the port, the archive is
    not the backup's, or the backup has an unknown service), InUse, NotABackup, NoForeignFile (the backup's), Found (the
    backup is damaged, or the audit has findings), RecordedByNewerCode, Unreachable, sqlite3.Error (the audit's),
    HalfMoved. Only after HalfMoved the data is changed.
    """
    backup = manifest.read(folder)
    watch.begins("comparing the checksums", len(backup.checksums))
    manifest.verify(folder, backup)
    settings = load(Settings, "nats", 4_222, env)
    await asyncio.to_thread(_refuse_other_archive, folder, backup, settings)
    broker = None if settings.nats_url else store_folder(env).absolute()
    places = _Places(settings.data_dir.absolute(), settings.archive.absolute(), broker)
    _refuse_unknown(backup)
    if not accepted.findings:
        _refuse_newer(folder, backup)
    old = _data(env, places)
    with data.unused(env, old, "nothing was replaced", broker=places.broker is not None):
        _refuse_port(places, settings)
        has = [path for path in old if _has_data(path)]
        if has and not accepted.replace:
            raise SettingsError(f"{has[0]} {HAS_DATA}")
        made = places.made()
        left: Iterable[Path | None] = made
        try:
            streams, findings = await _make(env, folder, backup, made, watch)
            if findings and not accepted.findings:
                raise Found(
                    f"the backup does not pass the audit: {findings[0]}. Nothing was replaced. Use another backup; or "
                    "restore this one all the same, if the system had this finding when it was backed up: "
                    "--accept-findings"
                )
            watch.begins("putting it in place", 0)
            old = [*has, *(path for path in _dependent(env, places) if path.exists())]
            aside = _swap(made, places, old, backup.stores)
        except HalfMoved:
            left = ()  # the operator is told to move the new data back into these folders
            raise
        except OSError as error:
            raise SettingsError(
                f"{error.filename or places.data} cannot be used: {error.strerror}; nothing was replaced"
            ) from error
        finally:
            _remove(left)
    return Restored(
        backup.made_at, {name: copy.facts for name, copy in backup.stores.items()}, streams, findings, aside
    )


def _refuse_other_archive(folder: Path, backup: Manifest, settings: Settings) -> None:
    """Refuse a restore whose archive, in a bucket, is not exactly the backup's: a restore changes no bucket.

    If no streams are restored, the archives are not compared; but a backup whose archive is in a bucket always needs
    ARCHIVE_URL. Raises SettingsError; Unreachable if the bucket does not answer; Found if its archive is damaged.
    """
    bucket = settings.archive_bucket
    if bucket is None:
        if backup.bucket:
            raise SettingsError(f"the archive of the backup is in {backup.bucket}: set ARCHIVE_URL")
        return
    if not backup.streams or settings.nats_url:
        return
    newest = "".join(backup.archived[-1:])
    try:
        archive = archive_of(settings)
        archive.look()
    except ArchiveUnreachable as error:
        raise Unreachable(str(error)) from error
    except ArchiveDamaged as error:
        raise Found(f"nothing was replaced: {error}") from error
    expected = digest((folder / manifest.ARCHIVE / file_name(newest)).read_bytes()) if newest else ""
    if archive.last_digest != expected:
        through = f" --through {newest}" if newest else ""
        raise SettingsError(
            f"the archive in {bucket} is not that of the backup, which ends with {newest or 'nothing archived'}. "
            f"Nothing was replaced. Copy it as it was to another place (just archive --copy-to s3://…{through}), or "
            "take another prefix if it had nothing; then set ARCHIVE_URL to that, and restore again"
        )


def _refuse_unknown(backup: Manifest) -> None:
    unknown = set(backup.stores).difference(service_names())
    if unknown:
        raise SettingsError(
            f"the backup has stores of services that this version does not have: {', '.join(sorted(unknown))}. Restore "
            "it with the version that made it"
        )


def _data(env: Mapping[str, str], places: _Places) -> list[Path]:
    """Return the absolute paths of what a restore replaces; each may be missing.

    These are the folders and identities of all services and, without NATS_URL, the broker's streams and the archive.
    """
    of_streams = [data.of_broker(env), *data.of_archive(env)] if places.broker else []
    return [path.absolute() for path in (*data.of_services(env), *of_streams)]


def _refuse_newer(folder: Path, backup: Manifest) -> None:
    for service, found in manifest.newer_facts(folder, backup).items():
        raise RecordedByNewerCode(
            f"the backup of {service}_svc has {found}. Nothing was replaced. Restore it with the version that made it; "
            "with this one, the orders with such facts are refused: --accept-findings"
        )


def _dependent(env: Mapping[str, str], places: _Places) -> list[Path]:
    """Return the absolute paths of what is only true of the replaced stores and streams; each may be missing.

    These are the audits' reports and checkpoints and, without NATS_URL, the acknowledged foreign messages.
    """
    return [path.absolute() for path in (*data.of_audits(env), *([foreign.path(env)] if places.broker else []))]


def _has_data(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(entry.name != "lock" for entry in path.iterdir()))


def _refuse_port(places: _Places, settings: Settings) -> None:
    if places.broker is not None and not is_free(settings.nats_port):
        raise SettingsError(
            f"a broker runs on port {settings.nats_port}: stop it first. If it is another system's, set NATS_PORT"
        )


async def _make(env: Mapping[str, str], folder: Path, backup: Manifest, made: _Places, watch: Watch) -> _Made:
    """Make all that is restored in the folders `made`, and audit it; without streams to restore there is no audit.

    Raises Unreachable, OSError and what `audit` raises.
    """
    watch.begins("copying the stores", 0)
    _remove(made)
    files.make_folder(made.data)
    for name, copy in backup.stores.items():
        files.make_folder(made.data / name)
        _copy(folder / copy.file, made.data / name / Path(copy.file).name)
    if NAME in backup.checksums:
        _copy(folder / NAME, made.data / NAME)
    in_bucket = env.get("ARCHIVE_URL", "").strip()
    for name in backup.checksums:
        if name.startswith(f"{manifest.ARCHIVE}/") and not in_bucket:
            new = made.archive / name.removeprefix(f"{manifest.ARCHIVE}/")
            files.make_folder(new.parent)
            _copy(folder / name, new)
    if made.broker is None or not backup.streams:
        return _Made({}, None)
    files.make_folder(made.broker)
    (port,) = free_ports(1)
    own = {
        **{name: value for name, value in env.items() if name != "NATS_URL"},
        "DATA_DIR": str(made.data),
        **({} if in_bucket else {"ARCHIVE_DIR": str(made.archive)}),
        "ARCHIVE_CACHE_DIR": str(load(Settings, "nats", 4_222, env).archive_cache.absolute()),
        "NATS_STORE_DIR": str(made.broker),
        "NATS_PORT": str(port),
    }
    with _broker(own, made.data / "nats.log"):
        messages = {}
        async with reading.stream(own) as stream:
            for name, snapshot in backup.streams.items():
                watch.begins(f"restoring the stream {name}", 0)
                messages[name] = await stream_snapshots.restore(stream, name, folder / snapshot.folder)
        return _Made(messages, await _audit(own, made.data / "audit", watch))


def _remove(folders: Iterable[Path | None]) -> None:
    for folder in folders:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _copy(file: Path, new: Path) -> None:
    shutil.copyfile(file, new)
    new.chmod(files.PRIVATE)
    files.sync_file(new)
    files.sync_folder(new.parent)


@contextlib.contextmanager
def _broker(env: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run a broker of this process's own during the block; write its output into the file `log`.

    Raises Unreachable if it does not start.
    """
    with log.open("wb") as output, contextlib.ExitStack() as stack:
        try:
            stack.enter_context(run_nats(env, output))
        except StartFailed as error:
            raise Unreachable(f"the broker cannot be started to restore the streams: {error}") from error
        yield


async def _audit(env: Mapping[str, str], folder: Path, watch: Watch) -> list[str]:
    """Audit the restored stores and streams, write the report into `folder`, and return the findings as texts."""
    options = Options(folder, timedelta(days=36_500), at_rest=False, full=True, against=None, answers=0, backup=True)
    report = await audit(env, options, watch)
    return [f"{finding.where} {finding.what}" for finding in report.findings]


def _swap(made: _Places, places: _Places, old: list[Path], services: Collection[str]) -> list[Path]:
    """Move the paths `old` aside, and the new data from `made` into `places`; return the new paths of the old data.

    If a move fails, all are undone, and OSError is raised; HalfMoved if one cannot be undone.
    """
    folder = data.moved_folder_name()
    aside = [Move(path, path.parent / folder / path.name) for path in old]
    new = [Move(made.data / name, places.data / name) for name in services]
    if made.broker is not None and places.broker is not None and made.broker.exists():
        new.append(Move(made.broker / "jetstream", places.broker / "jetstream"))
    if made.archive.is_dir() and (places.broker is not None or not any(places.archive.glob("*.json"))):
        new += [Move(path, places.archive / path.name) for path in sorted(made.archive.iterdir())]
    known = Move(made.data / NAME, places.data / NAME)
    if known.old.exists() and (known.new in old or not known.new.exists()):  # of a stream that stays, it stays, too
        new.append(known)
    for move in new:
        if not _has_data(move.new):
            _remove_empty(move.new)
    move_all([*aside, *new])
    return [move.new for move in aside]


def _remove_empty(folder: Path) -> None:
    """Remove a folder, if it exists, that has no other entry than `lock`. Raises OSError if it has."""
    with contextlib.suppress(FileNotFoundError):
        (folder / "lock").unlink()
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
