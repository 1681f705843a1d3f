"""The commands `orders backup` and `orders restore`."""

import os
import time
from pathlib import Path

import rich_click as click
import uvloop

from ops.audit.command import SHOWN
from ops.backup.backup import backup
from ops.backup.manifest import newer_facts
from ops.backup.restore import Accepted, restore
from ops.cli import ending_well
from ops.output import print_json, print_out
from ops.progress import progress_option, watched

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("backup")
@click.argument("folder", type=FOLDER)
@click.option("--stores-only", is_flag=True, help="Without the streams, for which the broker is not needed.")
@click.option("--json", "as_json", is_flag=True, help="For machines: the manifest.")
@progress_option
@ending_well
def backup_command(folder: Path, *, stores_only: bool, as_json: bool, progress: bool) -> None:
    """Back up the services' stores and the streams into FOLDER, beside the running system.

    FOLDER must be missing or empty; it gets its content at once, when that is whole. It has a copy of each store (all
    up to one consistent cut), the acknowledged foreign messages, and manifest.json with all checksums; without
    --stores-only also the snapshots of DEAD and of all generations of EVENTS, and the archive (of a bucket the
    manifests). Read models, exports and audit reports are not part of it.
    """
    began = time.monotonic()
    with watched(as_lines=progress) as watch:
        made = uvloop.run(backup(os.environ, folder.absolute(), watch, stores_only=stores_only))
    if as_json:
        print_json(made)
        return
    for service, copy in made.stores.items():
        print_out(f"{service}_svc's store: {copy.facts:,} facts")
    for name, snapshot in made.streams.items():
        print_out(f"the stream {name}: {snapshot.messages:,} messages")
    for service, found in newer_facts(folder, made).items():
        print_out(f"{service}_svc's store has {found}", error=True)
    print_out(f"the backup is in {folder}, in {time.monotonic() - began:.1f} s")


@click.command("restore")
@click.argument("folder", type=FOLDER)
@click.option("--yes", is_flag=True, help="Move existing data aside and replace it.")
@click.option(
    "--accept-findings", is_flag=True, help="Restore although the audit has findings, or the backup is of newer code."
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@progress_option
@ending_well
def restore_command(folder: Path, *, yes: bool, accept_findings: bool, as_json: bool, progress: bool) -> None:
    """Restore the backup in FOLDER as the data below DATA_DIR, while nothing runs on it.

    All checksums are compared before anything is replaced. If streams are restored, they and the stores are audited
    before, too. Old data is moved aside, not deleted. Without --yes the restore fails if it would replace stores,
    streams or an archive. Exit code 4: newer code recorded facts in the backup, which this version does not know;
    --accept-findings restores it all the same. The services make their consumers and read models anew. With NATS_URL,
    the broker's streams and consumers are left as they are, and there is no audit; archive and acknowledged foreign
    messages are restored only if there are none.
    """
    began = time.monotonic()
    with watched(as_lines=progress) as watch:
        made = uvloop.run(restore(os.environ, folder, watch, Accepted(yes, accept_findings)))
    if as_json:
        print_json(made, enc_hook=str)
        return
    for service, facts in made.stores.items():
        print_out(f"{service}_svc's store: {facts:,} facts")
    for name, messages in made.streams.items():
        print_out(f"the stream {name}: {messages:,} messages")
    for finding in (made.findings or ())[:SHOWN]:
        print_out(f"finding: {finding}")
    for aside in made.aside:
        print_out(f"the old data is in {aside}")
    print_out(
        f"restored as of {made.made_at.isoformat()}, in {time.monotonic() - began:.1f} s. Start the system (just up), "
        "then audit it (just audit)"
    )
