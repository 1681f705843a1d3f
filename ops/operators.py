"""`orders operators`: what operators did, from the services' logs of it, each held against its chain of hashes."""

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import rich_click as click
from rich.table import Table

from infra.http.operators.action_log import FILE, Action, Damage, read_log
from infra.local.services import service_folder, service_names
from infra.timestamps import parse_time
from ops.cli import INSTANT, TIMES, ending_well
from ops.details import shown_time
from ops.errors import Found, Unusable
from ops.output import cell, print_json, print_out

UNKNOWN: Final = "unknown"
"""The outcome of an intent without one: the service was stopped in between, or could not write."""


class DoneAction(msgspec.Struct):
    """What an operator did at a service. `outcome`: as the log has it, or UNKNOWN."""

    service: str
    operation: int
    at: datetime
    action: str
    who: str
    client: str
    target: dict[str, Any]
    reason: str
    outcome: str


def log_path(service: str, env: Mapping[str, str]) -> Path:
    """Return where the log of this service is; it may be missing. Raises SettingsError."""
    return service_folder(service, env) / FILE


def damages(env: Mapping[str, str]) -> Iterator[str]:
    """Yield in words what is wrong with the logs of the services. Raises SettingsError, Unusable."""
    for service in service_names():
        for one in _read(service, env):
            if isinstance(one, Damage):
                yield f"{log_path(service, env)}, line {one.line}: {one.why}"


def done(env: Mapping[str, str]) -> list[DoneAction]:
    """Return what operators did at all services, the oldest first. Raises SettingsError, Unusable."""
    found: list[DoneAction] = []
    for service in service_names():
        lines = [one for one in _read(service, env) if isinstance(one, Action)]
        outcomes = {one.operation: one.outcome for one in lines if one.kind == "outcome"}
        for one in lines:
            if one.kind == "intent" and (at := _instant(one.at)) is not None:
                outcome = outcomes.get(one.operation, UNKNOWN)
                fields = (one.action, one.who, one.client, one.target, one.reason)
                found.append(DoneAction(service, one.operation, at, *fields, outcome))
    return sorted(found, key=lambda one: (one.at, one.service, one.operation))


def _instant(text: str) -> datetime | None:
    try:
        return parse_time(text)
    except ValueError:
        return None


def _read(service: str, env: Mapping[str, str]) -> Iterator[Action | Damage]:
    try:
        yield from read_log(log_path(service, env))
    except OSError as error:
        raise Unusable(f"the operators' log {error.filename} cannot be read: {error.strerror}") from error


@click.command("operators")
@click.option("--since", type=INSTANT, metavar="TIME", help=f"Only what was begun from then on. {TIMES}")
@click.option("--json", "as_json", is_flag=True, help="For machines: a list of what was done.")
@ending_well
def command(*, since: datetime | None, as_json: bool) -> None:
    """List what operators did at the services: previews, redrives and drops of dead letters, rebuilds of read models.

    Who is the subject of the token, where services ask for tokens. An outcome `unknown` means that the service ended in
    between. Each log is a chain of hashes: a line that was changed, moved or taken out, but not one taken off the end,
    is told. The services need not run.

    \b
    Exit code: 0 good; 1 a log was changed; 2 wrong usage, or a log cannot be read
    Settings:  DATA_DIR (.data)
    """
    found = [one for one in done(os.environ) if since is None or one.at >= since]
    if as_json:
        print_json(found)
    elif found:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("when", "service", "action", "on", "who", "from", "outcome", "reason"):
            table.add_column(column, overflow="fold")
        for one in found:
            target = ", ".join(str(value) for value in one.target.values())
            texts = (shown_time(one.at), one.service, one.action, target, one.who, one.client, one.outcome, one.reason)
            table.add_row(*map(cell, texts))
        print_out(table)
    else:
        print_out("operators have done nothing")
    if wrong := list(damages(os.environ)):
        raise Found("\n".join(wrong))
