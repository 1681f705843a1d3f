"""`orders at`: the state of one order, product, account or coupon as it was then, folded from its service's log."""

import asyncio
import os
from collections.abc import Mapping
from datetime import datetime
from importlib import import_module
from typing import Any, Final, NamedTuple

import msgspec
import rich_click as click

from contracts.wire import decode
from infra.core.decider import Aggregate
from ops import stores
from ops.cli import ID, INSTANT, ending_well
from ops.errors import Found


class Kind(NamedTuple):
    """What an operator names: the service that keeps it, and its streams' category."""

    service: str
    category: str


KINDS: Final = {
    "order": Kind("order", "order"),
    "product": Kind("product", "product"),
    "user": Kind("point", "account"),
    "coupon": Kind("coupon", "coupon"),
}


class Then(NamedTuple):
    """The state after `version`, the last fact until then: said `at` (UTC), at `position` of its service's log."""

    stream: str
    version: int
    position: int
    at: datetime
    fact: str
    state: dict[str, Any]


async def state_at(
    env: Mapping[str, str], kind: str, key: str, position: int | None = None, time: datetime | None = None
) -> Then | None:
    """As it was after this position of the log, or at this time; None: it did not exist yet.

    Facts count in their order, up to the first that is later. Raises SettingsError, Unreachable.
    """
    service, category = KINDS[kind]
    stream = f"{category}-{key}"
    aggregate: Aggregate = import_module(f"{service}_svc.__main__").SERVICE.aggregates[category]
    state, then = aggregate.state(), None
    async with stores.log(env, service) as log:
        for record in await log.select_stream(stream):
            fact = decode(record.state)
            if (position is not None and record.position > position) or (time is not None and fact.at > time):
                break
            aggregate.evolve(state, fact)
            then = (stream, record.originator_version, record.position, fact.at, record.topic)
    return None if then is None else Then(*then, state=msgspec.to_builtins(state))


def lines(then: Then) -> list[tuple[str, str]]:
    """For a person: name and value of everything, what is empty left out."""
    told = {**then._asdict(), "at": then.at.isoformat()}
    state = told.pop("state")
    return [
        *((name, str(value)) for name, value in told.items()),
        *(
            (name, value if isinstance(value, str) else msgspec.json.encode(value).decode())
            for name, value in state.items()
            if value not in (None, {}, [])
        ),
    ]


@click.command("at")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("key", metavar="ID", type=ID)
@click.option("--position", type=click.IntRange(1), help="As of this position of the service's log.")
@click.option("--time", type=INSTANT, help="As of this time, such as 2026-01-31T09:00:00+09:00.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@ending_well
def command(kind: str, key: str, position: int | None, time: datetime | None, as_json: bool) -> None:
    """Show the state of an order, a product, a user's points or a coupon as it was then; without options, as it is.

    It is folded from the log of the service that keeps it, which is read from DATA_DIR, running or not.
    """
    if position is not None and time is not None:
        raise click.UsageError("either --position or --time")
    then = asyncio.run(state_at(os.environ, kind, key, position, time))
    if then is None:
        raise Found(f"there was no {kind} {key} then")
    if as_json:
        click.echo(msgspec.json.encode(then._asdict()).decode())
    else:
        told = lines(then)
        width = max(len(name) for name, _ in told)
        click.echo("\n".join(f"{name:<{width}}  {value}" for name, value in told))
