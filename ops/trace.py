"""`orders trace`: show what happened to one order, across all services, in the order of EVENTS."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
import rich_click as click
from rich.table import Table

from contracts import OrderCanceled
from contracts.fact import DECODE_ERRORS
from contracts.newer import NEXT_STEP
from contracts.origin import ForeignMessage, origin
from contracts.spans import CANCELED
from contracts.wire import COMPENSATIONS, FACTS, NAMES, STEPS, said_by, why_newer
from infra.broker.stored import StoredMessage
from infra.timestamps import now
from infra.tracing.otlp_json import as_otlp
from ops import newer, otlp, reading
from ops.cli import ID, TIMES, WholeNumber, ending_well
from ops.details import FactBody, PlacedOrder, detail, fact_body, heading, known, line_text
from ops.errors import Found
from ops.flow.command import parts
from ops.output import cell, escaped_json, print_line, print_out
from ops.seen_facts import seen_fact
from ops.waits import due

_STEPS: Final = STEPS.awaited + STEPS.following
STOPPING: Final = frozenset(
    NAMES[fact] for fact in (OrderCanceled, *(one for step in _STEPS for one in (step.refused, step.fenced))) if fact
)
"""The names of the facts that refuse a step, fence it, or cancel the order."""

OF_ORDER: Final = tuple(name for name, fact in FACTS.items() if fact.key_field == "order_id")
LEDGER: Final = tuple(
    name for name, fact in FACTS.items() if fact.key_field != "order_id" and "order_id" in fact.__struct_fields__
)
"""The names of facts that an order causes and that are published under the id of a product, a customer or a coupon."""

LEDGER_BEFORE: Final = frozenset(NAMES[fact] for step in _STEPS if step.returned for fact in (step.done, step.undone))
"""The names of the facts that are recorded together with those of LEDGER, after them."""


class TraceLine(NamedTuple):
    """One fact of the order, at `sequence` of EVENTS.

    `ms`: milliseconds since the order was placed; 0 if that is unknown. `cause` is the id of the fact that it answers;
    None: a client's request. `again`: EVENTS has the same fact earlier. `at` is when it was said, and `detail` its
    amount, product or reason; it may be empty. `newer`: what of it is of newer code, and unknown here; None: nothing.
    """

    sequence: int
    ms: float
    service: str
    fact: str
    fact_id: str
    cause: str | None
    again: bool
    at: str = ""
    detail: str = ""
    newer: str | None = None


class Trace(NamedTuple):
    """The facts of one order, the foreign messages under its subjects, which are not among the facts, and a heading.

    `heading`: lines for a person that say what the order is.
    """

    lines: list[TraceLine]
    foreign: list[reading.Read]
    heading: Sequence[str] = ()


async def trace(stream: reading.Stream, order_id: str, unknown: Sequence[str] = ()) -> Trace:
    """Read the order's facts up to the end of EVENTS and return them in stream order.

    Included are repeats, and the facts about its products, its customer's account and its coupon that it caused. One of
    these is missing if EVENTS had lost it, but not its service's answer, so that a relay published it after the answer.
    `unknown`: names of facts that newer code may have recorded, which are read, too. There are no lines if EVENTS has
    no such order. Raises ConsumerFailed, ArchiveDamaged, the client's errors.
    """
    found, foreign = await facts_of(stream, order_id, unknown)
    if not found:
        return Trace([], foreign)
    order = _order(found)
    seen: set[str] = set()
    return Trace([_line(message, order, seen) for message in found], foreign, _heading(order_id, found))


def _heading(order_id: str, found: Sequence[reading.Read]) -> list[str]:
    """Return lines that say what the order is; if it is canceled and not compensated, also that, and who owes what."""
    facts = [fact for message in found if (fact := known(message.body)) is not None]
    first, *others = map(line_text, heading(order_id, facts))
    seen = [seen_fact(StoredMessage(one.sequence, one.subject, one.body, one.head, one.stored_ns)) for one in found]
    if not any(fact.name == CANCELED for fact in seen):
        return [first, *others]
    owed = due([fact for fact in seen if fact.name in OF_ORDER], parts())
    not_compensated = "; not compensated yet" if owed else ""
    return [f"{first}{not_compensated}", *others, *(f"waits for {one.words}" for one in owed)]


def _order(own: Sequence[reading.Read]) -> PlacedOrder | None:
    return next((body.order for body in map(_decoded, own) if body.order is not None), None)


async def facts_of(
    stream: reading.Stream, order_id: str, unknown: Sequence[str] = ()
) -> tuple[list[reading.Read], list[reading.Read]]:
    """Read the messages of one order as `trace` does; return two lists: those of its facts, and the foreign ones."""
    found = [
        message async for message in reading.read(stream, [f"{name}.{order_id}" for name in (*OF_ORDER, *unknown)])
    ]
    own = [message for message in found if not _is_foreign(message)]
    foreign = [message for message in found if _is_foreign(message)]
    order = _order(own)
    ledger = {
        message
        for service, first, last in _ledger_spans(own)
        if (subjects := _ledger_subjects(service, order))
        async for message in reading.read(stream, subjects, first=first, last=last)
        if not _is_foreign(message) and _decoded(message).order_id == order_id
    }
    return sorted([*own, *ledger]), foreign


def _is_foreign(message: reading.Read) -> bool:
    try:
        origin(message.subject, message.fact_id, message.head, message.body)
        _decoded(message)
    except (ForeignMessage, *DECODE_ERRORS):
        return True
    return False


def _ledger_subjects(service: str, order: PlacedOrder | None) -> list[str]:
    """Return the subjects of what this service says about the order's products, its account or its coupon."""
    if order is None:
        return []
    keys = {
        "product_id": {line.product_id for line in order.lines},
        "user_id": {order.user_id} if order.points else set(),
        "coupon_id": {order.coupon_id} if order.coupon_id else set(),
    }
    names = [name for name in LEDGER if said_by(name) == service]
    return [f"{name}.{key}" for name in names for key in sorted(keys.get(FACTS[name].key_field, ()))]


def _ledger_spans(own: Sequence[reading.Read]) -> list[tuple[str, int, int]]:
    """Return (service, first, last): the order's facts of LEDGER are in these ranges of sequences, both ends included.

    A fact is not in them if EVENTS had lost it, but not its service's answer: a relay published it after the answer.

    A service publishes these facts just before its answer, such as `product.reserved`, so after the cause of the
    answer. All facts about a product that sells well would be too many to read. But where relays have published again
    what EVENTS lost, the cause may come after the answer: then the range begins with sequence 1.
    """
    sequences = {message.fact_id: message.sequence for message in reversed(own)}  # the first one of repeats
    spans = []
    for message in own:
        body = _decoded(message)
        if body.type in LEDGER_BEFORE:
            cause = sequences.get(body.cause or "", own[0].sequence)
            spans.append((said_by(body.type), cause if cause <= message.sequence else 1, message.sequence))
    return spans


async def follow(stream: reading.Stream, order_id: str, unknown: Sequence[str] = ()) -> AsyncIterator[TraceLine]:
    """Yield the order's facts from its first one on, and then each that arrives; the iteration does not end.

    Facts about its products, its customer's account and its coupon are left out, and so are foreign messages.
    `unknown`: as in `trace`. Raises ConsumerFailed, ArchiveDamaged, the client's errors.
    """
    seen: set[str] = set()
    order: PlacedOrder | None = None
    async for message in reading.read(stream, [f"{name}.{order_id}" for name in (*OF_ORDER, *unknown)], follow=True):
        if _is_foreign(message):
            continue
        order = order or _decoded(message).order
        yield _line(message, order, seen)


def _decoded(message: reading.Read) -> FactBody:
    return fact_body(message.body)


def _line(message: reading.Read, order: PlacedOrder | None, seen: set[str]) -> TraceLine:
    body = _decoded(message)
    again = message.fact_id in seen
    seen.add(message.fact_id)
    since = (body.at - order.placed_at).total_seconds() * 1_000 if order else 0.0
    why = why_newer(body.type, message.body)
    fact = known(message.body)
    return TraceLine(
        message.sequence,
        round(since, 3),
        said_by(body.type),
        body.type,
        message.fact_id,
        body.cause,
        again,
        body.at.isoformat(),
        "" if fact is None else detail(fact),
        None if why is None else why.what,
    )


# Output ---------------------------------------------------------------------------------------------------------------


def style(line: TraceLine) -> str:
    if line.again:
        return "dim"
    if line.fact in COMPENSATIONS:
        return "red"
    return "yellow" if line.fact in STOPPING else "green" if line.fact == "order.confirmed" else ""


def table(lines: Iterable[TraceLine]) -> Table:
    """Return the trace as a table for a person.

    Compensations are red, refusals, fences and cancels yellow, `order.confirmed` is green. Repeats in EVENTS are dim
    and marked `(again)`.
    """
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("ms", justify="right")
    for column in ("service", "fact", "detail", "because of"):
        made.add_column(column, no_wrap=column != "detail")
    made.add_column("sequence", justify="right")
    names: dict[str, str] = {}
    for line in lines:
        names[line.fact_id] = line.fact
        cause = "the client" if line.cause is None else names.get(line.cause, line.cause)
        fact = f"{line.fact} (again)" if line.again else line.fact
        fact += " (of newer code)" if line.newer else ""
        texts = (line.service, fact, line.detail, cause)
        made.add_row(f"{line.ms:,.1f}", *map(cell, texts), str(line.sequence), style=style(line))
    return made


def mermaid(lines: Iterable[TraceLine]) -> str:
    """Return the trace as the text of a Mermaid sequence diagram.

    It has an arrow for each fact or request that a service answered, and a note for each fact that it said, once.
    """
    said = {line.fact_id: line for line in lines if not line.again}
    services = list(dict.fromkeys(line.service for line in said.values()))
    drawing = ["sequenceDiagram", "    actor client", *(f"    participant {service}" for service in services)]
    arrows: set[tuple[str, str]] = set()
    for line in said.values():
        cause = said.get(line.cause) if line.cause is not None else None
        arrow = (line.service, line.cause or line.fact_id)
        if arrow not in arrows:  # one fact that is heard may lead to several
            arrows.add(arrow)
            heard = cause.fact if cause else "request" if line.cause is None else line.cause
            drawing.append(f"    {cause.service if cause else 'client'}->>{line.service}: {heard}")
        drawing.append(f"    Note over {line.service}: {line.fact}")
    return "\n".join(map(cell, drawing))


def as_json(lines: Iterable[TraceLine]) -> str:
    return escaped_json(msgspec.json.encode([line._asdict() for line in lines]))


async def run(env: Mapping[str, str], order_id: str, *, how: str) -> bool:
    """Print the trace as `how` says: table, json, mermaid or follow. Return False if EVENTS has no such order.

    With follow it prints facts as they arrive and does not return. Raises Unreachable, SettingsError.
    """
    async with reading.stream(env) as stream:
        if how == "follow":
            await _print_live(stream, order_id, newer.names(env))
            return True
        lines, foreign, told = await trace(stream, order_id, newer.names(env))
    outputs: dict[str, Any] = {"table": table, "json": as_json, "mermaid": mermaid}
    if lines and how == "table":
        print_out("\n".join([*map(cell, told), ""]))
    if lines:
        print_out(outputs[how](lines))
    for line in lines:
        if line.newer:
            print_out(
                f"of newer code: {line.fact_id} ({line.fact}), sequence {line.sequence}: {line.newer}", error=True
            )
    if any(line.newer for line in lines):
        print_out(f"this version knows such facts by their names only: {NEXT_STEP}", error=True)
    if foreign:
        places = ", ".join(f"{message.sequence} ({message.subject})" for message in foreign[:5])
        print_out(f"foreign messages, which no service published, are left out: sequence {places}", error=True)
    return bool(lines)


async def _print_live(stream: reading.Stream, order_id: str, unknown: Sequence[str]) -> None:
    async for line in follow(stream, order_id, unknown):
        fact = cell(line.fact) + (f" (of newer code: {cell(line.newer)})" if line.newer else "")
        shown = f"{line.ms:>10,.1f} ms  {cell(line.service):<8} {fact:<22}  {cell(line.detail)}"
        print_out(shown.rstrip(), style=style(line))


async def export(env: Mapping[str, str], order_id: str | None, since: datetime, to: str, most: int) -> None:
    """Hand the order's trace to OpenTelemetry; `order_id` None: the traces of the slowest hundredth of the orders.

    Of these at most `most`, and at least one. Only orders that ended at `since` or later are counted. With an
    `order_id`, `most` and `since` have no effect. `to` is the value of `--otlp`; with `-` the traces are printed
    instead. Raises Found if there is no such order, or none has ended since then; Unusable, Unreachable, SettingsError.
    """
    url = None if to == otlp.STANDARD_OUTPUT else otlp.endpoint(to, env)
    async with reading.stream(env) as stream:
        orders, ended = ([order_id], 1) if order_id else await otlp.slow_orders(stream, since, most)
        traces = [otlp.spans_of((await facts_of(stream, order, newer.names(env)))[0]) for order in orders]
    if not any(traces):
        raise Found(f"the stream has no order {order_id}" if order_id else "no order has ended since then")
    if to == otlp.STANDARD_OUTPUT:
        for spans in traces:
            print_line(as_otlp(spans), flush=False)
        return
    await asyncio.to_thread(otlp.send, url, [span for spans in traces for span in spans])
    many = f"the slowest {len(orders)} of {ended:,} ended orders"
    what = f"the trace {otlp.trace_of(order_id)}" if order_id else many
    print_out(f"sent {what}: {sum(map(len, traces))} spans")


@click.command("trace")
@click.argument("order_id", type=ID, required=False)
@click.option("--json", "how", flag_value="json", help="For machines: a list of facts.")
@click.option("--mermaid", "how", flag_value="mermaid", help="A sequence diagram, for a page that draws Mermaid.")
@click.option(
    "--follow",
    "how",
    flag_value="follow",
    help="Print only the facts of the order itself, without a heading, also those still to come, until Ctrl-C.",
)
@click.option(
    "--otlp",
    "to",
    is_flag=False,
    flag_value=otlp.FROM_ENVIRONMENT,
    metavar="[URL|-]",
    help="Send it to OpenTelemetry: to a collector (without URL: OTEL_EXPORTER_OTLP_ENDPOINT), or with - print it.",
)
@click.option("--slow", is_flag=True, help="With --otlp: the slowest hundredth of the orders that ended since --since.")
@click.option(
    "--since", type=otlp.Since(), metavar="TIME", help=f"With --slow, by default an hour ago: 1h, 30m, or {TIMES}."
)
@click.option(
    "--most",
    type=WholeNumber(1, 10_000),
    default=otlp.MOST_SLOW,
    show_default=True,
    metavar="ORDERS",
    help="With --slow: send no more than these.",
)
@ending_well
def command(
    *, order_id: str | None, how: str | None, to: str | None, slow: bool, since: datetime | None, most: int
) -> None:
    """Show what happened to ORDER_ID: its facts across all services, in the order of the stream.

    First the order: its end and the reason, its customer, when it was placed, what it asked for, its amounts; and if it
    is canceled and not compensated, what it waits for. Then a line for each fact: milliseconds since the order was
    placed, the service that said it, its amount or reason, and the fact it answers. Compensations are red; a repeat in
    the stream is marked. POST /orders answers with the order's id.

    With --otlp any order, however old, becomes a trace for OpenTelemetry. Its ids are those of the live trace.
    """
    if slow == (order_id is not None) or (since and not slow):
        raise click.UsageError("name an ORDER_ID, or ask for --slow with --otlp; only --slow takes --since")
    if (slow and not to) or (how and to):
        raise click.UsageError("--slow needs --otlp, and --otlp has no other form beside it")
    if to:
        asyncio.run(export(os.environ, order_id, since or now() - timedelta(hours=1), to, most))
        return
    assert order_id is not None
    try:
        found = asyncio.run(run(os.environ, order_id, how=how or "table"))
    except KeyboardInterrupt:
        if how == "follow":
            return
        raise
    if not found:
        raise Found(f"the stream has no order {order_id}")
