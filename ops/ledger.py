"""`orders ledger`: list every movement of a customer's points, a product's stock or a coupon, with the balance."""

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import rich_click as click
from rich.table import Table

from contracts.fact import Fact
from contracts.wire import COMPENSATIONS
from ops.at import history, kinds
from ops.cli import ID, INSTANT, LARGEST, TIMES, WholeNumber, ending_well
from ops.details import detail, shown_time
from ops.errors import Found
from ops.output import cell, print_json, print_out


class BalanceKind(NamedTuple):
    """The balance of a kind of thing: its `name` for a person, and `of`, which takes it from a state.

    A balance is a number; a coupon's is the id of the order that uses it, or None if it is free.
    """

    name: str
    of: Callable[[Any], int | str | None]


BALANCES: Final[Mapping[str, BalanceKind]] = {
    "user": BalanceKind("points", lambda state: int(state.balance)),
    "product": BalanceKind("pieces available", lambda state: int(state.available)),
    "coupon": BalanceKind("used by", lambda state: None if state.order_id is None else str(state.order_id)),
}


class Movement(msgspec.Struct):
    """One fact about the thing: where its service recorded it, and what it changed.

    `position`: in the service's log. `order_id`: the order that the fact is about, or null. `amount`: by how much the
    balance changed; null for a coupon. `balance`: after the fact; of a coupon, the id of the order that uses it, or
    null. `reason`: of a refusal, or null. `detail`: a text for a person.
    """

    position: int
    at: datetime
    fact: str
    order_id: str | None
    amount: int | None
    balance: int | str | None
    reason: str | None
    detail: str


async def movements(env: Mapping[str, str], kind: str, key: str) -> list[Movement]:
    """Return a movement for each fact in the thing's stream, from the first on. `kind` is a key of BALANCES.

    Some facts change no balance: among them are refused and voided answers to orders, which older code recorded there.
    Raises RecordedByNewerCode, Found, SettingsError, Unreachable.
    """
    aggregate, balance_of = kinds()[kind].aggregate, BALANCES[kind].of
    state = aggregate.state()
    found = []
    for record, fact in await history(env, kind, key):
        before = balance_of(state)
        aggregate.evolve(state, fact)
        balance = balance_of(state)
        amount = balance - before if isinstance(balance, int) and isinstance(before, int) else None
        found.append(_movement(record.position, record.topic, fact, amount, balance))
    return found


def _movement(position: int, name: str, fact: Fact, amount: int | None, balance: int | str | None) -> Movement:
    order_id, reason = getattr(fact, "order_id", None), getattr(fact, "reason", None)
    return Movement(position, fact.at, name, order_id, amount, balance, reason, detail(fact))


def table(kind: str, found: list[Movement]) -> Table:
    """Return the movements as a table for a person: what was refused or voided is yellow, compensations are red."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("time (UTC)", no_wrap=True)
    made.add_column("fact", no_wrap=True)
    made.add_column("order", no_wrap=True)
    if kind != "coupon":
        made.add_column("amount", justify="right")
    made.add_column(BALANCES[kind].name, justify="left" if kind == "coupon" else "right", overflow="fold")
    made.add_column("detail", overflow="fold")
    for one in found:
        amount = [] if kind == "coupon" else [f"{one.amount:+,}" if one.amount else ""]
        balance = f"{one.balance:,}" if isinstance(one.balance, int) else one.balance or "free"
        style = "red" if one.fact in COMPENSATIONS else "yellow" if one.fact.endswith((".failed", ".voided")) else ""
        made.add_row(
            shown_time(one.at).removesuffix(" UTC"),
            *map(cell, (one.fact, one.order_id or "", *amount, balance, one.detail)),
            style=style,
        )
    return made


@click.command("ledger")
@click.argument("thing", metavar="{user|product|coupon}", type=click.Choice(list(BALANCES)))
@click.argument("key", metavar="ID", type=ID)
@click.option("--since", type=INSTANT, help=f"Movements at this time or later: {TIMES}.")
@click.option("--until", type=INSTANT, help="Movements at this time or before.")
@click.option("--limit", type=WholeNumber(0, LARGEST), help="Only the last so many of these. Default: all.")
@click.option("--json", "as_json", is_flag=True, help="For machines: the movements, and how many were left out.")
@ending_well
def command(
    thing: str, key: str, since: datetime | None, until: datetime | None, limit: int | None, *, as_json: bool
) -> None:
    """List every movement of a user's points, a product's stock or a coupon: time, fact, order, amount, balance.

    What was refused moved nothing, and is listed only if older code recorded it: `orders trace` shows an order's
    reason. The log is read from DATA_DIR, whether the service runs or not. Exit code 1: the log has no fact about this
    user, product or coupon, or a damaged one. Exit code 4: one of these facts is of newer code.
    """
    if since is not None and until is not None and since > until:
        raise click.UsageError("--since is after --until")
    found = asyncio.run(movements(os.environ, thing, key))
    if not found:
        raise Found(f"there is no {thing} {key}")
    chosen = [one for one in found if (since is None or one.at >= since) and (until is None or one.at <= until)]
    shown = chosen if limit is None else chosen[len(chosen) - min(limit, len(chosen)) :]
    now = found[-1].balance
    if as_json:
        left_out = len(found) - len(shown)
        print_json({"kind": thing, "id": key, "balance": now, "left_out": left_out, "movements": shown})
        return
    told = f"{now:,} {BALANCES[thing].name}" if isinstance(now, int) else f"used by {now}" if now else "free"
    print_out(f"{thing} {cell(key)} now: {cell(told)}")
    if shown:
        print_out(table(thing, shown))
    if len(shown) < len(found):
        print_out(f"{len(found) - len(shown):,} other movements are not shown (--since, --until, --limit)")
