"""The command `orders find`."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import rich_click as click
from rich.table import Table

from contracts.fact import REASONS
from contracts.newer import NEXT_STEP
from ops.cli import EXIT_FINDING, EXIT_NEWER, ID, INSTANT, SEQUENCE, TIMES, WholeNumber, end, ending_well
from ops.details import shown_time
from ops.errors import Found
from ops.find.criteria import By, Criteria, FoundOrder
from ops.find.nothing import why_nothing
from ops.find.search import FoundOrders, OrderCount, Search, search
from ops.output import cell, print_json, print_out
from ops.progress import watched
from ops.waits import Due
from order_svc.domain import Status

PAGE: Final = 50
MOST: Final = 10_000
STATUSES: Final[dict[str, Status]] = {"pending": "PENDING", "confirmed": "CONFIRMED", "canceled": "CANCELED"}
SHOWN_NOTES: Final = 3


def criteria_of(
    *,
    user: str | None,
    product: str | None,
    coupon: str | None,
    end: str | None,
    reason: str | None,
    since: datetime | None,
    until: datetime | None,
    by: By | None,
    uncompensated: bool = False,
) -> Criteria:
    """Return what these options of `orders find` ask for; `end` is `pending`, `confirmed`, `canceled` or None: any.

    `by` None: `ended` if only ended orders are asked for, else `placed`. Raises click.UsageError if two contradict.
    """
    if since is not None and until is not None and since > until:
        raise click.UsageError("--since is after --until")
    if reason is not None and end not in (None, "canceled"):
        raise click.UsageError(f"--reason is why an order was canceled, so it does not go with --end {end}")
    if end == "pending" and by == "ended":
        raise click.UsageError("an order that is pending has not ended, so --by ended finds none")
    if uncompensated and end not in (None, "canceled"):
        raise click.UsageError(f"--uncompensated is of canceled orders, so it does not go with --end {end}")
    status = STATUSES[end] if end else "CANCELED" if reason or uncompensated else None
    if by is None:
        by = "placed" if status in (None, "PENDING") else "ended"
    return Criteria(user, product, coupon, status, reason, since, until, by, uncompensated)


# Output ---------------------------------------------------------------------------------------------------------------


def table(found: Sequence[FoundOrder], by: By, owed: Mapping[str, Sequence[Due]] | None = None) -> Table:
    """Return the orders as a table for a person: canceled ones are red, pending ones yellow.

    `by`: which time the first column has; a pending order's is the one it was placed. `owed`: order id → what services
    owe it; if not empty, a last column has that.
    """
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in (f"{by} (UTC)", "order", "user", "end"):
        made.add_column(column, no_wrap=True)
    made.add_column("due", justify="right", no_wrap=True)
    made.add_column("wanted", overflow="fold")
    if owed:
        made.add_column("waits for", overflow="fold")
    for one in found:
        at = one.placed_at if by == "placed" or one.ended_at is None else one.ended_at
        status = one.status.lower() + (f", {one.reason}" if one.reason else "")
        due = "" if one.amount_due is None else f"{one.amount_due:,}"
        texts = [shown_time(at).removesuffix(" UTC"), one.order_id, one.user_id, status, due, _wanted(one)]
        if owed:
            texts.append(", ".join(f"{each.service}_svc: {each.says}" for each in owed.get(one.order_id, ())))
        style = {"CANCELED": "red", "PENDING": "yellow"}.get(one.status, "")
        made.add_row(*map(cell, texts), style=style)
    return made


def _wanted(one: FoundOrder) -> str:
    named = [f"{line.quantity:,} x {line.product_id}" for line in one.lines]
    named += [f"{one.points:,} points"] if one.points else []
    named += [f"coupon {one.coupon_id}"] if one.coupon_id else []
    return ", ".join(named)


def count_lines(counts: Sequence[OrderCount]) -> list[str]:
    width = max((len(f"{one.orders:,}") for one in counts), default=0)
    return [
        f"{one.orders:>{width},} {one.status.lower()}" + (f", {one.reason}" if one.reason else "") for one in counts
    ]


def as_json(found: FoundOrders, asked: Search, why: str) -> dict[str, Any]:
    return {
        "orders": found.orders,
        "next": found.following,
        "counts": [one._asdict() for one in found.counts] if asked.counting else None,
        "searched": {"first": found.within.after + 1, "last": found.within.until},
        "why": why or None,
        "notes": found.notes,
        "newer": found.newer,
        "damaged": found.damaged,
        "owed": {order_id: [one._asdict() for one in owed] for order_id, owed in found.owed.items()},
    }


def show(found: FoundOrders, asked: Search) -> None:
    if asked.counting:
        lines = count_lines(found.counts)
        print_out("\n".join([f"{sum(one.orders for one in found.counts):,} orders:", *(f"  {line}" for line in lines)]))
    if found.orders:
        print_out(table(found.orders, asked.criteria.by, found.owed))
    if found.following is not None:
        print_out(f"older ones: the same with --after {found.following}")


def _tell(texts: Sequence[str], what: str = "") -> None:
    """Print the first SHOWN_NOTES of these on standard error, each after `what`, and how many more there are."""
    for text in texts[:SHOWN_NOTES]:
        print_out(cell(what + text), error=True)
    if len(texts) > SHOWN_NOTES:
        print_out(f"and {len(texts) - SHOWN_NOTES:,} more like it", error=True)


def _end(found: FoundOrders, why: str) -> None:
    """End the process with the exit code for what was found.

    Return if orders were found or counted, and all facts that were needed could be read. `why`: why no order was found;
    empty: some were. Raises Found with `why`; SystemExit for damaged facts and those of newer code.
    """
    if why:
        raise Found(why)
    if found.damaged:
        end("", EXIT_FINDING)
    if found.newer:
        end("", EXIT_NEWER)


HELP: Final = """Find orders, the newest first: by user, product, coupon, end, reason, time.

An order is shown if it has all that is given.

\b
What was canceled last night, and why:
  orders find --end canceled --since 22:00 --until 06:00 --count

\b
What is canceled and still keeps stock, points or a coupon, and who has to say what:
  orders find --uncompensated

The source is order_svc's log below DATA_DIR, which the audit proves: it is read whether anything runs or not, and
has an order once it is accepted. Of the order list, a read model, only the ids of a user's orders and of the
pending ones are used; each is looked up in the log, and so is all that the list has not read yet.

\b
What it costs with 1,000,000 orders:
  --user, --end pending   a look-up for each order that the list has of them
  --since, --until        reads what was recorded in that time, and finds it at once
  all others, and none    read the log back to where the page is full: all of it takes seconds
  --uncompensated         reads all canceled orders; the logs of all services say what they gave back
  --whole                 reads the log like these, whatever else is given
  --count                 goes on to the end; without --end or --reason it looks up the end of
                          each order, which takes a minute for a million

\b
Exit code: 0 found; 1 none (it says why), or a fact is damaged; 2 wrong usage;
           3 the log cannot be read; 4 an order has a fact of newer code
"""


@click.command("find", help=HELP)
@click.option("--user", type=ID, metavar="ID", help="Of this customer.")
@click.option("--product", type=ID, metavar="ID", help="That asked for this product.")
@click.option("--coupon", type=ID, metavar="ID", help="That asked to use this coupon, also those that it was refused.")
@click.option("--end", "ended_as", type=click.Choice(list(STATUSES)), help="That ended like this, or have not ended.")
@click.option("--reason", type=click.Choice(REASONS), help="That were canceled for this reason.")
@click.option("--uncompensated", is_flag=True, help="That are canceled, and of which something is still taken.")
@click.option("--since", type=INSTANT, help=f"At this time or later: {TIMES}.")
@click.option("--until", type=INSTANT, help="At this time or before.")
@click.option(
    "--by",
    type=click.Choice(["placed", "ended"]),
    help="Which time of an order counts, and sorts. Default: when it ended with --end or --reason, else placed.",
)
@click.option(
    "--limit", type=WholeNumber(0, MOST), default=PAGE, show_default=True, metavar="N", help="How many a page has."
)
@click.option("--after", type=SEQUENCE, metavar="KEY", help="The next page: the KEY that the page before names.")
@click.option(
    "--count", "counting", is_flag=True, help="Also how many have each end and reason, on this page and later ones."
)
@click.option("--whole", is_flag=True, help="Read the log alone: no order list, no search by time. For an auditor.")
@click.option("--json", "as_json_", is_flag=True, help="For machines.")
@ending_well
def command(
    *,
    user: str | None,
    product: str | None,
    coupon: str | None,
    ended_as: str | None,
    reason: str | None,
    uncompensated: bool,
    since: datetime | None,
    until: datetime | None,
    by: By | None,
    limit: int,
    after: int | None,
    counting: bool,
    whole: bool,
    as_json_: bool,
) -> None:
    criteria = criteria_of(
        user=user,
        product=product,
        coupon=coupon,
        end=ended_as,
        reason=reason,
        since=since,
        until=until,
        by=by,
        uncompensated=uncompensated,
    )
    if not limit and not counting:
        raise click.UsageError("--limit 0 shows nothing without --count")
    asked = Search(criteria, after, limit, counting, whole)

    async def run() -> tuple[FoundOrders, str]:
        with watched(as_lines=False) as watch:
            found = await search(os.environ, asked, watch)
            nothing = not found.orders and not found.counts
            return found, await why_nothing(os.environ, criteria, found, watch) if nothing else ""

    found, why = asyncio.run(run())
    if as_json_:
        print_json(as_json(found, asked, why))
    else:
        show(found, asked)
        _tell(found.notes, "note: ")
    _tell(found.damaged, "damaged: ")
    _tell(found.newer, f"of newer code, {NEXT_STEP}: ")
    _end(found, why)
