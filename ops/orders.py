"""`orders`: what operators and auditors ask of a running system. Each command has a module of its own."""

import asyncio
import os
import re
from datetime import datetime
from typing import Final, NoReturn

import msgspec
import rich_click as click
from rich.console import Console

from infra.settings import SettingsError
from infra.store import StoreError
from ops import at, trace
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


@orders.command("at")
@click.argument("kind", type=click.Choice(list(at.KINDS)))
@click.argument("key", metavar="ID")
@click.option("--position", type=click.IntRange(1), help="As of this position of the service's log.")
@click.option("--time", "instant", metavar="TIME", help="As of this time, such as 2026-01-31T09:00:00+09:00.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def at_command(kind: str, key: str, position: int | None, instant: str | None, as_json: bool) -> None:
    """Show the state of an order, a product, a user's points or a coupon as it was then; without options, as it is.

    It is folded from the log of the service that keeps it, which is read from DATA_DIR, running or not.
    """
    if position is not None and instant is not None:
        raise click.UsageError("either --position or --time")
    try:
        then = asyncio.run(at.state_at(os.environ, kind, key, position, _time(instant)))
    except SettingsError as error:
        _end(str(error), EXIT_USAGE)
    except StoreError as error:
        kept_by = f"{at.KINDS[kind].service}_svc"
        _end(f"the log of {kept_by} cannot be read: {error}. Has it run with this DATA_DIR?", EXIT_UNREACHABLE)
    if then is None:
        _end(f"there was no {kind} {key} then", EXIT_FINDING)
    if as_json:
        click.echo(msgspec.json.encode(then._asdict()).decode())
    else:
        told = at.lines(then)
        width = max(len(name) for name, _ in told)
        click.echo("\n".join(f"{name:<{width}}  {value}" for name, value in told))


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time such as 2026-01-31T09:00:00+09:00", param_hint="--time"
        ) from None
    if instant.tzinfo is None:
        raise click.BadParameter(f"{text} is a different time in each zone; add the offset", param_hint="--time")
    return instant


def _end(why: str, code: int) -> NoReturn:
    click.echo(why, err=True)
    raise SystemExit(code)


if __name__ == "__main__":
    orders(prog_name="orders")
