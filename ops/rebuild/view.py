"""Rebuilds a read model of the running system, and waits until it has caught up."""

import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ops.client import request
from ops.errors import Unreachable, Unusable

LOOK_EVERY_S: Final = 0.1
PATIENCE_S: Final = 30.0  # with a read model that makes no progress


class NoSuchView(Unusable):
    """No service has a read model of this name. The message lists all read models."""


def states(url: str) -> list[dict[str, Any]]:
    """Ask a service about its read models: dicts of `name`, `behind` (facts not yet applied) and `trouble`.

    `behind` is None if it is unknown; then `trouble` says why. Raises Unreachable.
    """
    found: list[dict[str, Any]] = request("GET", f"{url}/ops/views").json()["views"]
    return found


def find(name: str, urls: Mapping[str, str]) -> str:
    """Ask all services for the read model of this name, and return the URL of the service that keeps it.

    `urls`: service → URL. Raises NoSuchView, Unreachable.
    """
    kept = {service: [view["name"] for view in states(url)] for service, url in urls.items()}
    for service, names in kept.items():
        if name in names:
            return urls[service]
    listed = ", ".join(f"{view} ({service}_svc)" for service, names in kept.items() for view in names)
    raise NoSuchView(
        f"there is no service and no read model {name!r}; services: {', '.join(urls)}; read models: {listed or 'none'}"
    )


def rebuild(name: str, url: str, console: Console) -> int:
    """Have the service at `url` drop and rebuild the read model, show the progress, and wait until it has caught up.

    Returns the most facts that it had still to apply: it has applied at least as many. Raises Unreachable, also after
    PATIENCE_S without progress.
    """
    request("POST", f"{url}/ops/views/{name}/rebuild")
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("facts"), TimeRemainingColumn())
    most, fewest, moved_at = 0, sys.maxsize, time.monotonic()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=None)
        while True:
            (state,) = [view for view in states(url) if view["name"] == name]
            if state["behind"] is not None:
                behind = int(state["behind"])
                if behind < fewest:
                    fewest, moved_at = behind, time.monotonic()
                most = max(most, behind)
                progress.update(task, total=most or None, completed=most - behind)
                if behind == 0:
                    return most
            if time.monotonic() - moved_at > PATIENCE_S:
                raise Unreachable(f"{name} makes no progress: {state['trouble'] or f'{fewest} facts behind'}")
            time.sleep(LOOK_EVERY_S)
