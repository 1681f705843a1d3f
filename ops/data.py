"""What a system has stored below DATA_DIR, NATS_STORE_DIR, ARCHIVE_DIR and ARCHIVE_CACHE_DIR, and its locks."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from infra.broker.numbering import EVENTS, number_of
from infra.files import LockTaken, make_folder, take_lock
from infra.local.control import socket_path
from infra.local.nats import lock_store, store_folder
from infra.local.processes import StartFailed
from infra.local.services import service_names
from infra.settings import Settings, load
from infra.store.identity import outside
from ops import foreign, stores
from ops.errors import Unusable

RESTORING: Final = ".restoring"
"""The folder, in DATA_DIR, NATS_STORE_DIR and ARCHIVE_DIR, in which a restore makes the new data."""

LOCK: Final = ".lock"
"""The file in DATA_DIR that a command locks while it works on all data: only one does, also where there is none yet."""

REPLACED: Final = "replaced-"
"""Begins the names of the folders to which restores and rebuilds move the old data."""


class InUse(Unusable):
    """Something works on the data, or a lock cannot be used. The message names it, and says what was not done."""


def folder(env: Mapping[str, str]) -> Path:
    """Return DATA_DIR. Raises SettingsError."""
    return load(Settings, "nats", 4_222, env).data_dir


def moved_folder_name() -> str:
    """Return the name of the folder to which old data is moved now."""
    return f"{REPLACED}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"


def of_services(env: Mapping[str, str]) -> list[Path]:
    """Return the folders of all services, then the identity files that say which store is in each; each may be missing.

    Raises SettingsError.
    """
    paths = {name: stores.store(env, name) for name in service_names()}
    return [*(path.parent for path in paths.values()), *(outside(path, name) for name, path in paths.items())]


def of_removed_services(env: Mapping[str, str]) -> list[Path]:
    """Return what exists of services that this checkout lacks: folders with a store, then identity files.

    A folder without an identity file beside it is not found. Raises SettingsError.
    """
    known = set(service_names())
    identities = [path for path in sorted(folder(env).glob("*.identity")) if path.stem not in known]
    stores_ = [path.with_suffix("") for path in identities if (path.with_suffix("") / "events.sqlite").is_file()]
    return [*stores_, *identities]


def of_broker(env: Mapping[str, str]) -> Path:
    """Return the folder of the bundled broker's streams, inside the broker's folder; it may be missing."""
    return store_folder(env) / "jetstream"


def archive_folder(env: Mapping[str, str]) -> Path:
    """Return the archive's folder: ARCHIVE_DIR, or `archive` in DATA_DIR. It may not exist.

    An archive in a bucket does not use it. Raises SettingsError.
    """
    return load(Settings, "nats", 4_222, env).archive


def archive_cache(env: Mapping[str, str]) -> Path:
    """Return ARCHIVE_CACHE_DIR; it may be missing. Raises SettingsError."""
    return load(Settings, "nats", 4_222, env).archive_cache


def of_archive(env: Mapping[str, str]) -> list[Path]:
    """Return the existing manifests and folders in ARCHIVE_DIR, also those of a generation archived only in part.

    Raises SettingsError.
    """
    names = sorted(archive_folder(env).glob(f"{EVENTS}*"))
    return [path for path in names if number_of(path.name.removesuffix(".json")) is not None]


def of_audit(env: Mapping[str, str], *, backup: bool) -> Path:
    """Return the default folder of audits' report and checkpoint: of the system's, or if `backup`, of a backup's.

    It may be missing. Raises SettingsError.
    """
    return folder(env) / ("audit-backup" if backup else "audit")


def of_audits(env: Mapping[str, str]) -> list[Path]:
    return [of_audit(env, backup=backup) for backup in (False, True)]


def stored(env: Mapping[str, str]) -> list[Path]:
    """Return the paths of the existing files and folders that services, broker and commands made.

    What is in such a folder is not listed. All are below DATA_DIR, NATS_STORE_DIR, ARCHIVE_DIR or ARCHIVE_CACHE_DIR.
    Raises SettingsError.
    """
    found = [
        *of_services(env),
        *of_removed_services(env),
        of_broker(env),
        store_folder(env) / "lock",
        *of_audits(env),
        foreign.path(env),
    ]
    found += [folder(env) / "export", socket_path(env)]
    archive = archive_folder(env)
    cache = archive_cache(env)
    own = cache == folder(env) / "archive-cache"
    found += [cache] if own else [cache / "files", cache / "writing", cache / LOCK]
    found += [archive] if archive == folder(env) / "archive" else [*of_archive(env), archive / LOCK]
    for kept in dict.fromkeys((folder(env), store_folder(env), archive)):
        found += [kept / RESTORING, *sorted(kept.glob(f"{REPLACED}*"))]
    return [path for path in found if path.exists()]


@contextlib.contextmanager
def unused(env: Mapping[str, str], changed: Iterable[Path], otherwise: str, *, broker: bool = True) -> Iterator[None]:
    """Hold the locks of services that have a folder, of exports that ran in DATA_DIR, of the archive and of its cache.

    None of these can start during the block. A service without a folder, and an archiver of an archive or cache without
    a lock file, can. With `broker` the bundled broker's lock is held, too, if it has a folder. No lock is waited for:
    if another process holds one, also by this function, InUse is raised. DATA_DIR is made if missing.

    `changed`: the paths that the block changes; before it, no other process may have a file there open. `otherwise`:
    what the error says was not done. Raises InUse, SettingsError.
    """
    with contextlib.ExitStack() as stack:
        try:
            alone = folder(env) / LOCK
            make_folder(alone.parent)
            stack.callback(os.close, take_lock(alone))
            stack.callback(alone.unlink, missing_ok=True)
            folders = [path for path in (*of_services(env), *of_removed_services(env)) if path.is_dir()]
            exports, archive = (folder(env) / "export").glob("**/*.lock"), [archive_folder(env), archive_cache(env)]
            archivers = [path / LOCK for path in archive if (path / LOCK).is_file()]
            for path in [*(path / "lock" for path in folders), *exports, *archivers]:
                stack.callback(os.close, take_lock(path))
            if broker and store_folder(env).is_dir():
                stack.callback(os.close, lock_store(env))
        except LockTaken as holder:
            raise InUse(f"{holder} works on this data: stop the system first; {otherwise}") from None
        except StartFailed as error:
            raise InUse(f"stop the broker first; {otherwise}: {error}") from None
        except OSError as error:
            raise InUse(f"{error.filename} cannot be used: {error.strerror}; {otherwise}") from error
        for pid, file in open_files(changed):
            raise InUse(f"process {pid} has {file} open: stop it first; {otherwise}")
        yield


def open_files(paths: Iterable[Path]) -> Iterator[tuple[int, str]]:
    """Yield process id and path of each file, at or below these paths, that another process has open.

    A file that is open several times comes as often. Only Linux tells, and only of processes that this one may look
    into; elsewhere nothing is yielded.
    """
    roots = [str(path.resolve()) for path in paths]
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # the process has ended, or is somebody else's
            target = str(descriptor.readlink())
            pid = int(descriptor.parts[2])
            if pid != os.getpid() and any(target == root or target.startswith(f"{root}/") for root in roots):
                yield pid, target
