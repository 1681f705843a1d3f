"""`orders trace`: what happened to one order, across all services, in the order of the stream."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import rich_click as click
from rich.console import Console
from rich.table import Table

from contracts.wire import COMPENSATIONS, FACTS, said_by
from ops import reading
from ops.cli import ID, ending_well
from ops.errors import Found

STOPPING: Final = (".failed", ".voided", "order.canceled")
"""How facts end that say: not this order."""

OF_ORDER: Final = tuple(name for name, fact in FACTS.items() if fact.key_field == "order_id")
LEDGER: Final = tuple(name for name in FACTS if name.startswith("product.stock.") and name != "product.stock.added")
"""An order's part of the products' stock ledgers: published under the product's id."""


LEDGER_BEFORE: Final = frozenset({"product.reserved", "product.released"})


class Step(NamedTuple):
    """One fact of the order. `ms`: since the order was placed; `again`: it stood in the stream before."""

    sequence: int
    ms: float
    service: str
    fact: str
    fact_id: str
    cause: str | None
    again: bool


class _Line(msgspec.Struct):
    product_id: str


class _Order(msgspec.Struct):
    placed_at: datetime
    lines: list[_Line]


class _Body(msgspec.Struct):
    """What a trace needs of any fact."""

    type: str
    at: datetime
    cause: str | None = None
    order_id: str | None = None
    order: _Order | None = None


_body: Final = msgspec.json.Decoder(_Body)


async def trace(stream: reading.Stream, order_id: str) -> list[Step]:
    """The order's facts in stream order, its part of the stock ledger included; none: there is no such order."""
    own = [message async for message in reading.read(stream, [f"{name}.{order_id}" for name in OF_ORDER])]
    if not own:
        return []
    order = next((body.order for body in map(_decoded, own) if body.order is not None), None)
    products = {line.product_id for line in order.lines} if order else set()
    subjects = [f"{name}.{product_id}" for name in LEDGER for product_id in products]
    ledger = {
        message
        for first, last in _ledger_spans(own)
        async for message in reading.read(stream, subjects, first=first, last=last)
        if _decoded(message).order_id == order_id
    }
    seen: set[str] = set()
    return [_step(message, order, seen) for message in sorted([*own, *ledger])]


def _ledger_spans(own: Sequence[reading.Read]) -> list[tuple[int, int]]:
    """From where to where the order's part of the stock ledger stands.

    product_svc says it together with `product.reserved` or `product.released`, before it: so between that and its
    cause. A product that sells well has a ledger too long to read all of it.
    """
    sequences = {message.fact_id: message.sequence for message in own}
    spans = []
    for message in own:
        body = _decoded(message)
        if body.type in LEDGER_BEFORE:
            cause = sequences.get(body.cause or "", own[0].sequence)
            spans.append((min(cause, message.sequence), max(cause, message.sequence)))
    return spans


async def follow(stream: reading.Stream, order_id: str) -> AsyncIterator[Step]:
    """The order's own facts as they come, from its first one, for ever."""
    seen: set[str] = set()
    order: _Order | None = None
    async for message in reading.read(stream, [f"{name}.{order_id}" for name in OF_ORDER], follow=True):
        order = order or _decoded(message).order
        yield _step(message, order, seen)


def _decoded(message: reading.Read) -> _Body:
    return _body.decode(message.body)


def _step(message: reading.Read, order: _Order | None, seen: set[str]) -> Step:
    body = _decoded(message)
    again = message.fact_id in seen
    seen.add(message.fact_id)
    since = (body.at - order.placed_at).total_seconds() * 1_000 if order else 0.0
    return Step(message.sequence, round(since, 3), said_by(body.type), body.type, message.fact_id, body.cause, again)


# Output ---------------------------------------------------------------------------------------------------------------


def style(step: Step) -> str:
    if step.again:
        return "dim"
    if step.fact in COMPENSATIONS:
        return "red"
    return "yellow" if step.fact.endswith(STOPPING) else "green" if step.fact == "order.confirmed" else ""


def table(steps: Iterable[Step]) -> Table:
    """For a person: compensations in red, what stands in the stream again is marked."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("ms", justify="right")
    for column in ("service", "fact", "because of"):
        made.add_column(column)
    made.add_column("sequence", justify="right")
    names: dict[str, str] = {}
    for step in steps:
        names[step.fact_id] = step.fact
        cause = "the client" if step.cause is None else names.get(step.cause, step.cause)
        fact = f"{step.fact} (again)" if step.again else step.fact
        made.add_row(f"{step.ms:,.1f}", step.service, fact, cause, str(step.sequence), style=style(step))
    return made


def mermaid(steps: Iterable[Step]) -> str:
    """A sequence diagram: an arrow for what each service heard, a note for what it said."""
    said = {step.fact_id: step for step in steps if not step.again}
    services = list(dict.fromkeys(step.service for step in said.values()))
    lines = ["sequenceDiagram", "    actor client", *(f"    participant {service}" for service in services)]
    drawn: set[tuple[str, str]] = set()
    for step in said.values():
        cause = said.get(step.cause) if step.cause is not None else None
        arrow = (step.service, step.cause or step.fact_id)
        if arrow not in drawn:  # one hearing may lead to several facts
            drawn.add(arrow)
            heard = cause.fact if cause else "request" if step.cause is None else step.cause
            lines.append(f"    {cause.service if cause else 'client'}->>{step.service}: {heard}")
        lines.append(f"    Note over {step.service}: {step.fact}")
    return "\n".join(lines)


def as_json(steps: Iterable[Step]) -> str:
    return msgspec.json.encode([step._asdict() for step in steps]).decode()


async def run(env: Mapping[str, str], order_id: str, *, how: str, console: Console) -> bool:
    """Print the trace; false if there is no such order. Raises Unreachable, SettingsError."""
    async with reading.stream(env) as stream:
        if how == "follow":
            await _print_live(stream, order_id, console)
            return True
        steps = await trace(stream, order_id)
    outputs: dict[str, Any] = {"table": table, "json": as_json, "mermaid": mermaid}
    if steps:
        made = outputs[how](steps)
        console.print(made) if how == "table" else console.print(made, markup=False, highlight=False, soft_wrap=True)
    return bool(steps)


async def _print_live(stream: reading.Stream, order_id: str, console: Console) -> None:
    async for step in follow(stream, order_id):
        console.print(f"{step.ms:>10,.1f} ms  {step.service:<8} {step.fact}", style=style(step), highlight=False)


@click.command("trace")
@click.argument("order_id", type=ID)
@click.option("--json", "how", flag_value="json", help="For machines: a list of facts.")
@click.option("--mermaid", "how", flag_value="mermaid", help="A sequence diagram, for a page that draws Mermaid.")
@click.option("--follow", "how", flag_value="follow", help="Go on with what is still to come, until Ctrl-C.")
@ending_well
def command(order_id: str, how: str | None) -> None:
    """Show what happened to ORDER_ID: its facts across all services, in the order of the stream.

    Each line has the milliseconds since the order was placed, the service that said the fact, and the fact it answers.
    Compensations are red; a fact that stands in the stream again is marked. An order's id is in the answer to POST
    /orders.
    """
    try:
        found = asyncio.run(run(os.environ, order_id, how=how or "table", console=Console()))
    except KeyboardInterrupt:
        return
    if not found:
        raise Found(f"the stream has no order {order_id}")
