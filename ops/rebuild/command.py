"""The command `orders rebuild`: of a service's store, or of a read model."""

import asyncio
import os
import time
from typing import Any

import msgspec
import rich_click as click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from infra.local.services import service_names
from ops import foreign, reading, stores
from ops.cli import ending_well, timeout_option
from ops.client import TIMEOUT_S, services
from ops.foreign import KnownForeign
from ops.newer import FoundNewer
from ops.output import console, print_json, print_out
from ops.rebuild import store, view
from ops.rebuild.store import Allowed, Rebuilt


async def rebuild_store(service: str, allowed: Allowed, errors: Console, *, dry_run: bool) -> Rebuilt:
    """Rebuild the service's store from EVENTS, with its progress on the console; see `store.rebuild`.

    Raises Found, SettingsError, NoForeignFile, Unreachable, StoreSetupError; OSError for an error of the disk.
    """
    folder = stores.folder(os.environ, service)
    known = KnownForeign.read(foreign.path(os.environ))
    columns = (SpinnerColumn(), TextColumn(f"reading {service}_svc's facts"), TextColumn("{task.completed:,.0f}"))
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("")
        async with reading.stream(os.environ) as stream:
            return await store.rebuild(
                stream,
                service,
                folder,
                allowed,
                lambda read: progress.advance(task, read),
                known=known,
                dry_run=dry_run,
            )


def _of_view(name: str, console: Console, timeout_s: float) -> dict[str, Any]:
    service = view.find(name, services(os.environ), timeout_s)
    return {"view": name, "facts": view.rebuild(name, service, console, timeout_s)}


@click.command("rebuild")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Read and check everything, change nothing.")
@click.option(
    "--lose-unpublished", is_flag=True, help="Continue although the store has facts that the stream does not have."
)
@click.option("--lose-damaged", is_flag=True, help="Continue although the old store cannot be read.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@timeout_option(TIMEOUT_S)
@ending_well
def command(
    name: str, *, dry_run: bool, lose_unpublished: bool, lose_damaged: bool, as_json: bool, timeout: float
) -> None:
    """Build what NAME stores again: a service's store from the stream, or a read model from the facts.

    A service, such as `point`, must be stopped. All its facts are read from the stream: no position and no version may
    be missing. The old store and its read models are put aside, not deleted. Nothing is changed if the old store has
    facts that the stream does not have (unless --lose-unpublished), or cannot be read (unless --lose-damaged).

    A read model, such as `popular`, is dropped and rebuilt in the running system. Until it has caught up its readers
    wait or get 503; orders are not affected.
    """
    began, errors = time.monotonic(), console(error=True)
    service = name.removesuffix("_svc")
    told: dict[str, Any]
    if service in service_names():
        allowed = Allowed(lose_unpublished, lose_damaged)
        path = stores.store(os.environ, service).absolute()
        told = msgspec.to_builtins(asyncio.run(rebuild_store(service, allowed, errors, dry_run=dry_run)), enc_hook=str)
        text = f"{service}_svc's store {'can be' if dry_run else 'is'} rebuilt: {told['facts']:,} facts"
        if told["lost"]:
            text += f"; {told['lost']:,} facts that only the old store had are lost"
        if told["foreign"]:
            text += f"; {told['foreign']:,} foreign messages were passed over (`just audit` names them)"
        if told["newer"]:
            text += f"; {FoundNewer(told['newer'], told['first_newer'])}"
        told["store"] = str(path)
        text += f"; the store is {path}"
        if told["aside"]:
            text += f"; the old store is in {told['aside']}"
    else:
        if dry_run or lose_unpublished or lose_damaged:
            raise click.UsageError(f"{name} is not a service: these options are for a service's store")
        told = _of_view(name, errors, timeout)
        text = f"{name} is rebuilt"
    took_s = round(time.monotonic() - began, 3)
    if as_json:
        print_json({**told, "took_s": took_s})
    else:
        print_out(f"{text}, in {took_s:.1f} s")
