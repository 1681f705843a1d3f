"""`orders remove-data`: removes everything that this system has stored, while nothing of it runs."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import rich_click as click

from infra.files import LockTaken, take_lock
from infra.local.nats import lock_store, store_folder
from infra.local.processes import StartFailed
from infra.local.services import service_names
from infra.settings import Settings, load
from infra.store.identity import outside
from ops import stores
from ops.cli import ending_well
from ops.errors import Unusable
from ops.output import print_out


def stored(env: Mapping[str, str]) -> list[Path]:
    """List the existing files and folders below DATA_DIR and NATS_STORE_DIR that services, broker and commands made.

    Nothing else that lies there. Raises SettingsError.
    """
    data = load(Settings, "nats", 4_222, env).data_dir
    found = [stores.folder(env, name) for name in service_names()]
    found += [outside(stores.store(env, name), name) for name in service_names()]
    found += [store_folder(env) / name for name in ("jetstream", "lock")]
    found += [data / name for name in ("export", "audit", "audit-backup")]
    return [path for path in found if path.exists()]


@contextlib.contextmanager
def unused(env: Mapping[str, str]) -> Iterator[None]:
    """Hold the locks of all services, the broker and the export, so that none of them can start. Raises Unusable."""
    with contextlib.ExitStack() as stack:
        try:
            for folder, lock in ((stores.folder(env, name), "lock") for name in service_names()):
                if folder.is_dir():
                    stack.callback(os.close, take_lock(folder / lock))
            for path in (load(Settings, "nats", 4_222, env).data_dir / "export").glob("**/*.lock"):
                stack.callback(os.close, take_lock(path))
            if store_folder(env).is_dir():
                stack.callback(os.close, lock_store(env))
        except LockTaken as holder:
            raise Unusable(f"{holder} works on this data: stop the system first; nothing was removed") from None
        except StartFailed as error:
            raise Unusable(f"stop the broker first; nothing was removed: {error}") from None
        for pid, file in open_files(stored(env)):
            raise Unusable(f"process {pid} has {file} open: stop it first; nothing was removed")
        yield


def open_files(folders: list[Path]) -> Iterator[tuple[int, str]]:
    """Yield the process ids and paths of files in these folders that other processes have open. Linux alone knows."""
    roots = [str(folder.resolve()) for folder in folders]
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # the process has ended, or is somebody else's
            target = str(descriptor.readlink())
            pid = int(descriptor.parts[2])
            if pid != os.getpid() and any(target == root or target.startswith(f"{root}/") for root in roots):
                yield pid, target


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


@click.command("remove-data")
@click.option("--yes", is_flag=True, help="Do it. Without it, what would be removed is only listed.")
@ending_well
def command(*, yes: bool) -> None:
    """Remove all stored data for good: the stores of all services and of the bundled broker, exports and audits.

    Nothing may run on it: a service, the broker or an export that does is named, and nothing is removed. Other files in
    DATA_DIR stay. The stream of another broker (NATS_URL) stays, too; services with new stores refuse to work with it.
    """
    found = stored(os.environ)
    if not found:
        print_out("there is no data")
        return
    with unused(os.environ):
        for path in found:
            print_out(f"{path}  {_size(path):,} bytes")
        if not yes:
            print_out("nothing was removed; with --yes all of this is, for good")
            return
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with contextlib.suppress(OSError):  # something else is in it
            store_folder(os.environ).rmdir()
    print_out("removed")
