"""Rebuilds a read model of the running system, and waits until it has caught up."""

import sys
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ops.client import TIMEOUT_S, ServiceAddress, ServiceRequest, ask
from ops.errors import Unreachable, Unusable

LOOK_EVERY_S: Final = 0.1
PATIENCE_S: Final = 30.0  # with a read model that makes no progress


class NoSuchView(Unusable):
    """No service has a read model of this name. The message lists all read models."""


class ReadModelState(msgspec.Struct):
    """What a service says of one of its read models: `behind`, how many facts it has yet to read, and what is wrong.

    `behind` is null if it is unknown; then `trouble` says why.
    """

    name: str
    behind: int | None = None
    trouble: str | None = None


def states(service: ServiceAddress, timeout_s: float = TIMEOUT_S) -> list[ReadModelState]:
    """Ask a service about its read models. It blocks. Raises Unreachable.

    `timeout_s`: seconds for each attempt; after a 503 there may be several (see `ask_with`).
    """
    answer = ask(ServiceRequest(service, "GET", "/ops/views"), timeout_s=timeout_s)
    try:
        return msgspec.convert(answer.body.get("views"), list[ReadModelState])
    except msgspec.ValidationError as error:
        raise Unreachable(f"{service} does not say which read models it has: {error}") from error


def find(name: str, asked: Mapping[str, ServiceAddress], timeout_s: float = TIMEOUT_S) -> ServiceAddress:
    """Ask these services for the read model of this name, and return the service that has it.

    A service that does not answer does not matter if another one has it. Raises NoSuchView if all answer and none has
    it; Unreachable if one does not answer and no other one has it.
    """
    kept: dict[str, list[str]] = {}
    away: list[Unreachable] = []
    for service, one in asked.items():
        try:
            kept[service] = [view.name for view in states(one, timeout_s)]
        except Unreachable as error:
            away.append(error)
            continue
        if name in kept[service]:
            return one
    listed = ", ".join(f"{view} ({service}_svc)" for service, names in kept.items() for view in names)
    if away:
        also = f"; the read models of the services that answer are {listed}" if listed else ""
        why = f"no service that answers has a read model {name!r}{also}; {'; '.join(map(str, away))}"
        raise Unreachable(why) from away[0]
    raise NoSuchView(
        f"there is no service and no read model {name!r}; services: {', '.join(asked)}; read models: {listed or 'none'}"
    )


def rebuild(name: str, service: ServiceAddress, console: Console, timeout_s: float = TIMEOUT_S) -> int:
    """Have the service drop and rebuild the read model, show the progress, and wait until it has caught up.

    Returns the most facts that the read model was seen to be behind. Raises Unreachable, also after PATIENCE_S seconds
    without progress.
    """
    ask(ServiceRequest(service, "POST", f"/ops/views/{quote(name, safe='')}/rebuild"), timeout_s=timeout_s)
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("facts"), TimeRemainingColumn())
    most, fewest, moved_at = 0, sys.maxsize, time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        while True:
            state = next((view for view in states(service, timeout_s) if view.name == name), None)
            if state is None:
                raise Unreachable(f"{service} has no read model {name} any more: was other code started meanwhile?")
            if state.behind is not None:
                behind = state.behind
                if behind < fewest:
                    fewest, moved_at = behind, time.monotonic()
                most = max(most, behind)
                progress.update(task, total=most or None, completed=most - behind)
                if behind == 0:
                    return most
            if time.monotonic() - moved_at > PATIENCE_S:
                raise Unreachable(f"{name} makes no progress: {state.trouble or f'it lacks {fewest} facts'}")
            time.sleep(LOOK_EVERY_S)
