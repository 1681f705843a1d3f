"""`orders remove-data`: removes what `ops.data.stored` lists, while nothing of the system runs."""

import contextlib
import os
import shutil
from pathlib import Path

import rich_click as click

from infra.local.nats import store_folder
from infra.settings import Settings, load
from ops import data
from ops.cli import ending_well
from ops.output import print_out


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


@click.command("remove-data")
@click.option("--yes", is_flag=True, help="Do it. Without it, what would be removed is only listed.")
@ending_well
def command(*, yes: bool) -> None:
    """Remove all data in DATA_DIR, NATS_STORE_DIR and ARCHIVE_DIR for good: stores, streams, archive, exports, audits.

    Without --yes the paths are only listed. Copies of a bucket's files (ARCHIVE_CACHE_DIR), what restores and rebuilds
    moved aside, and the acknowledgements of foreign messages, are removed, too. Nothing may run on the data: a service,
    the broker or an export that does is named, and nothing is removed. Files in DATA_DIR outside of the listed folders
    stay. The stream of another broker (NATS_URL) and an archive in a bucket (ARCHIVE_URL) stay, too; services with new
    stores refuse to work with them.
    """
    found = data.stored(os.environ)
    if bucket := load(Settings, "nats", 4_222, os.environ).archive_bucket:
        print_out(f"the archive in {bucket} stays: for a new system set ARCHIVE_URL to another prefix")
    if not found:
        print_out("there is no data")
        return
    with data.unused(os.environ, found, "nothing was removed"):
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
