"""The command `orders archive`."""

import os

import rich_click as click
import uvloop

from ops.archive.archiving import Archived, archive, forget
from ops.archive.copying import copy
from ops.cli import EXIT_FINDING, end, ending_well
from ops.output import cell, print_json, print_out
from ops.progress import progress_option, watched


@click.command("archive")
@click.option("--dry-run", is_flag=True, help="Only say what could be archived, and why the next one has to stay.")
@click.option("--lost", is_flag=True, help="The archive is lost for good: the services publish again what it had.")
@click.option("--copy-to", metavar="PLACE", help="Copy the archive to s3://bucket/prefix, or to a folder, instead.")
@click.option("--through", metavar="EVENTS_N", help="With --copy-to: the last generation to copy.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@progress_option
@ending_well
def command(
    *, dry_run: bool, lost: bool, copy_to: str | None, through: str | None, as_json: bool, progress: bool
) -> None:
    """Move sealed generations of the stream into the archive, the oldest first, beside the running system.

    Each becomes compressed files in ARCHIVE_DIR, or in the bucket of ARCHIVE_URL, with an index and a manifest. They
    are read back and compared with the stream and with the services' logs; only then the stream is deleted. A
    generation stays while a consumer or view has not heard all of it, an order in it is open or not compensated, or a
    dead letter is of one of its messages: then the reason and the next step are said. All commands read archive and
    stream as one history. Run it again at any time, also after a run that was killed. Exit code 1: a generation before
    the newest has to stay, or its files differ from stream or logs; with --copy-to, the archive is damaged, or another
    one is in PLACE.

    The streams know which archive they left generations to: with another one, or without it, services and commands
    stop, and say so. If it is lost for good, and the stores are whole: --lost.
    """
    if lost:
        if dry_run or as_json or copy_to or through:
            raise click.UsageError("--lost takes no other option")
        uvloop.run(forget(os.environ))
        print_out("the streams know of no archive any more: restart the services; they publish again what it had")
        return
    if copy_to is not None or through is not None:
        _copy(copy_to, through, as_json=as_json, progress=progress)
        return
    with watched(as_lines=progress) as watch:
        done = uvloop.run(archive(os.environ, watch, dry_run=dry_run))
    if as_json:
        print_json(done, enc_hook=str)
    else:
        for text in _lines(done):
            print_out(cell(text))
    if done.kept:
        end("", EXIT_FINDING)


def _copy(to: str | None, through: str | None, *, as_json: bool, progress: bool) -> None:
    if to is None:
        raise click.UsageError("--through says the last generation that --copy-to copies")
    with watched(as_lines=progress) as watch:
        copied = uvloop.run(copy(os.environ, to, through, watch))
    if as_json:
        print_json(copied)
        return
    for stream in copied:
        print_out(cell(f"{stream} is copied to {to}"))
    name = "ARCHIVE_URL" if "://" in to else "ARCHIVE_DIR"
    print_out(cell(f"{to} has it all: set {name}={to} for all services and commands, and restart them"))


def _lines(done: Archived) -> list[str]:
    told = [
        f"{one.stream} is archived in {done.place}: {one.messages:,} messages, of {one.stream_bytes:,} bytes in the "
        f"stream and {one.archive_bytes:,} in the archive"
        for one in done.archived
    ]
    told += [f"{name} could be archived" for name in done.possible]
    told += [f"the stream {name} is deleted: its files are proven" for name in done.deleted]
    told += [f"{name} stays: {reason}" for name, reasons in done.kept.items() for reason in reasons]
    return told or ["there is nothing to archive: the newest generation stays (just stream ls)"]
