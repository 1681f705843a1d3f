"""Puts a backup in the place of stopped services' stores and of the bundled broker's files.

Everything is made and audited in folders beside the final ones first. Only then the old data is moved aside, and the
new data renamed into its place.
"""

import contextlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from infra import files
from infra.files import LockTaken, exclusive_lock
from infra.local.nats import start_nats
from infra.local.ports import free_ports, is_free
from infra.local.processes import StartFailed, stop_process
from infra.local.services import ROOT, service_names
from infra.settings import Settings, SettingsError, load
from ops import reading
from ops.audit.run import Options, audit
from ops.backup import manifest, stream_snapshots
from ops.backup.manifest import Manifest
from ops.errors import Found, Unreachable
from ops.progress import Watch


class Restored(Struct):
    """The result of a restore: how many facts each store has, and how many messages each stream.

    `findings`: what the audit found in the backup, as texts; null: there was no audit, because no stream was restored.
    `aside`: the paths to which the old data was moved.
    """

    made_at: datetime
    stores: dict[str, int]
    streams: dict[str, int]
    findings: list[str] | None
    aside: list[Path]


class Accepted(Struct, frozen=True):
    """What an operator accepts. `replace`: existing data is moved aside. `findings`: the backup may have findings."""

    replace: bool = False
    findings: bool = False


class _Made(NamedTuple):
    """What was made beside the data: the number of messages of each stream, and the audit's findings (see Restored)."""

    streams: dict[str, int]
    findings: list[str] | None


class _Places(NamedTuple):
    """The folder of the services' data, and the one of the bundled broker; None: the broker is another one."""

    data: Path
    broker: Path | None


async def restore(env: Mapping[str, str], folder: Path, watch: Watch, accepted: Accepted) -> Restored:
    """Restore the backup in `folder` as the data of `env`.

    With NATS_URL set, the broker's streams are left as they are. Raises
    SettingsError (a service or the broker runs, data exists, a folder cannot be used), NotABackup, Found (the backup is
    damaged, or the audit has findings), Unreachable. Then the data is as it was.
    """
    backup = manifest.read(folder)
    watch.begins("comparing the checksums", len(backup.checksums))
    manifest.verify(folder, backup)
    settings = load(Settings, "nats", 4_222, env)
    places = _Places(settings.data_dir.absolute(), None if settings.nats_url else _broker_folder(env, settings))
    _refuse_unknown(backup)
    with _nothing_runs(places, settings):
        old = [path for path in _data(places) if _has_data(path)]
        if old and not accepted.replace:
            raise SettingsError(
                f"{old[0]} has data already. To restore another place, set DATA_DIR; to move this data aside and "
                "replace it: --yes"
            )
        made = _Places(_beside(places.data), None if places.broker is None else _beside(places.broker))
        try:
            streams, findings = await _make(env, folder, backup, made, watch)
            if findings and not accepted.findings:
                raise Found(
                    f"the backup does not pass the audit: {findings[0]}. Nothing was replaced. Use another backup; or "
                    "restore this one all the same, if the system had this finding when it was backed up: "
                    "--accept-findings"
                )
            watch.begins("putting it in place", 0)
            aside = _swap(made, places, old, backup.stores)
        except OSError as error:
            raise SettingsError(f"{error.filename or places.data} cannot be used: {error.strerror}") from error
        finally:
            for left in made:
                if left is not None:
                    shutil.rmtree(left, ignore_errors=True)
    return Restored(
        backup.made_at, {name: copy.facts for name, copy in backup.stores.items()}, streams, findings, aside
    )


def _broker_folder(env: Mapping[str, str], settings: Settings) -> Path:
    return ROOT / (env.get("NATS_STORE_DIR") or settings.data_dir / "nats")


def _refuse_unknown(backup: Manifest) -> None:
    unknown = set(backup.stores).difference(service_names())
    if unknown:
        raise SettingsError(
            f"the backup has stores of services that this version does not have: {', '.join(sorted(unknown))}. Restore "
            "it with the version that made it"
        )


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.restoring")


def _data(places: _Places) -> list[Path]:
    """The paths of all that a restore replaces, whether it exists or not."""
    services = [places.data / name for name in service_names()]
    identities = [path.with_name(f"{path.name}.identity") for path in services]
    return [*services, *identities, *([places.broker] if places.broker else [])]


def _has_data(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(entry.name != "lock" for entry in path.iterdir()))


@contextlib.contextmanager
def _nothing_runs(places: _Places, settings: Settings) -> Iterator[None]:
    """Hold the locks of all folders that exist, so that nothing can be started on them. Raises SettingsError."""
    with contextlib.ExitStack() as stack:
        for path in _data(places):
            if not path.is_dir():
                continue
            try:
                stack.enter_context(exclusive_lock(path / "lock"))
            except LockTaken:
                raise SettingsError(f"a process runs on {path}: stop the services and the broker first") from None
            except OSError as error:
                raise SettingsError(f"{path} cannot be used: {error.strerror}") from error
        if places.broker is not None and not is_free(settings.nats_port):
            raise SettingsError(
                f"a broker runs on port {settings.nats_port}: stop it first. If it is another system's, set NATS_PORT"
            )
        yield


async def _make(env: Mapping[str, str], folder: Path, backup: Manifest, made: _Places, watch: Watch) -> _Made:
    """Make the stores and the broker's files in `made`, and audit them."""
    watch.begins("copying the stores", 0)
    for left in made:
        if left is not None:
            shutil.rmtree(left, ignore_errors=True)
    for name, copy in backup.stores.items():
        files.make_folder(made.data / name)
        new = made.data / name / Path(copy.file).name
        shutil.copyfile(folder / copy.file, new)
        new.chmod(manifest.PRIVATE)
        files.sync_file(new)
        files.sync_folder(new.parent)
    if made.broker is None or not backup.streams:
        return _Made({}, None)
    files.make_folder(made.broker)
    (port,) = free_ports(1)
    own = {
        **{name: value for name, value in env.items() if name != "NATS_URL"},
        "DATA_DIR": str(made.data),
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


@contextlib.contextmanager
def _broker(env: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run a broker of this process's own during the block. Raises Unreachable if it does not start."""
    with log.open("wb") as output:
        try:
            broker = start_nats(env, output)
        except StartFailed as error:
            raise Unreachable(f"the broker cannot be started to restore the streams: {error}") from error
        try:
            yield
        finally:
            stop_process(broker)


async def _audit(env: Mapping[str, str], folder: Path, watch: Watch) -> list[str]:
    """Audit the stores and the stream as they were restored, and return the findings as texts."""
    options = Options(folder, timedelta(days=36_500), at_rest=False, full=True, against=None, answers=0, backup=True)
    report = await audit(env, options, watch)
    return [f"{finding.where} {finding.what}" for finding in report.findings]


def _swap(made: _Places, places: _Places, old: list[Path], services: Collection[str]) -> list[Path]:
    """Move the old data aside and the new data into its place, durably; return the paths of the old data."""
    stamp = f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    files.make_folder(places.data)
    asides = []
    for path in old:
        aside = path.parent / stamp / path.name
        files.make_folder(aside.parent)
        files.rename(path, aside)
        asides.append(aside)
    for name in services:
        _put(made.data / name, places.data / name)
    files.sync_folder(places.data)
    if made.broker is not None and places.broker is not None and made.broker.exists():
        files.make_folder(places.broker.parent)
        _put(made.broker, places.broker)
        files.sync_folder(places.broker.parent)
    return asides


def _put(new: Path, path: Path) -> None:
    """Rename a folder; in its place may be one that has at most a lock."""
    with contextlib.suppress(FileNotFoundError):
        (path / "lock").unlink()
    with contextlib.suppress(FileNotFoundError):
        path.rmdir()
    files.rename(new, path)
