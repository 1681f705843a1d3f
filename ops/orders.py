"""`orders`: what operators and auditors ask of a running system. Each command has a module of its own."""

import asyncio
import os
import re
from typing import Final, NoReturn

import rich_click as click
from rich.console import Console

from infra.settings import SettingsError
from ops import trace
from ops.client import Unreachable

EXIT_FINDING: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3


@click.group(
    epilog="Exit codes: 0 good, 1 a finding, 2 wrong usage, 3 the system cannot be reached. The broker is the one that "
    "NATS_URL or NATS_PORT name."
)
def orders() -> None:
    """Look into the history of the orders on a running system."""


@orders.command("trace")
@click.argument("order_id")
@click.option("--json", "how", flag_value="json", help="For machines: a list of facts.")
@click.option("--mermaid", "how", flag_value="mermaid", help="A sequence diagram, for a page that draws Mermaid.")
@click.option("--follow", "how", flag_value="follow", help="Go on with what is still to come, until Ctrl-C.")
def trace_command(order_id: str, how: str | None) -> None:
    """Show what happened to ORDER_ID: its facts across all services, in the order of the stream.

    Each line has the milliseconds since the order was placed, the service that said the fact, and the fact it answers.
    Compensations are red; a fact that stands in the stream again is marked. An order's id is in the answer to POST
    /orders.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", order_id):
        raise click.BadParameter("1 to 64 letters, digits, `_` or `-`", param_hint="ORDER_ID")
    try:
        found = asyncio.run(trace.run(os.environ, order_id, how=how or "table", console=Console()))
    except KeyboardInterrupt:
        return
    except SettingsError as error:
        _end(str(error), EXIT_USAGE)
    except Unreachable as error:
        _end(str(error), EXIT_UNREACHABLE)
    if not found:
        _end(f"the stream has no order {order_id}", EXIT_FINDING)


def _end(why: str, code: int) -> NoReturn:
    click.echo(why, err=True)
    raise SystemExit(code)


if __name__ == "__main__":
    orders(prog_name="orders")
