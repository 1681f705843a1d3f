"""`python -m ops.rebuild`: drop a read model of the running system, and watch it being fed again."""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from infra import local
from infra.settings import SettingsError
from ops.client import Unreachable, request

EXIT_GOOD: Final = 0
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3

LOOK_EVERY_S: Final = 0.1
PATIENCE_S: Final = 30.0  # with a read model that does not get on

EPILOG: Final = """\
A read model (view) is a table made of facts. While it is fed again its readers are refused, and orders go on.

exit code: 0 rebuilt; 2 there is no such read model, or wrong usage; 3 a service or the broker cannot be reached
"""


class NotGettingOn(Exception):
    """The read model is not fed; the message says what its service says about it."""


class NoSuchView(Exception):
    """No service has a read model of this name; the message lists those there are."""


def states(url: str) -> list[dict[str, Any]]:
    """The read models of the service at this URL. Raises Unreachable."""
    found: list[dict[str, Any]] = request("GET", f"{url}/ops/views").body["views"]
    return found


def find(name: str, urls: Mapping[str, str]) -> str:
    """The URL of the service that keeps this read model. Raises NoSuchView, Unreachable."""
    kept = {service: [view["name"] for view in states(url)] for service, url in urls.items()}
    for service, names in kept.items():
        if name in names:
            return urls[service]
    listed = ", ".join(f"{view} ({service}_svc)" for service, names in kept.items() for view in names)
    raise NoSuchView(f"there is no read model {name!r}; there are: {listed or 'none'}")


def rebuild(name: str, url: str, console: Console) -> None:
    """Drop it and watch until it has caught up. Raises Unreachable, NotGettingOn."""
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
                    return
            if time.monotonic() - moved_at > PATIENCE_S:
                raise NotGettingOn(f"{name} is not getting on: {state['trouble'] or f'{fewest} facts behind'}")
            time.sleep(LOOK_EVERY_S)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="just rebuild",
        description="Drop a read model of the running system and feed it again from the beginning.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="the read model, such as popular")
    asked = parser.parse_args(arguments)
    try:
        url = find(asked.name, {service: local.url(service, os.environ) for service in local.services()})
        began = time.monotonic()
        rebuild(asked.name, url, Console(stderr=True))
    except (NoSuchView, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except (Unreachable, NotGettingOn) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_UNREACHABLE
    print(f"{asked.name} is rebuilt, in {time.monotonic() - began:.1f} s")
    return EXIT_GOOD


if __name__ == "__main__":
    raise SystemExit(main())
