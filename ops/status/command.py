"""The command `orders status`."""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import inf
from typing import Any, Final, NamedTuple

import rich_click as click
from rich.table import Table

from infra.counts import count_of
from infra.timestamps import now
from ops.cli import EXIT_FINDING, SecondsParameter, end, ending_well, timeout_option
from ops.client import ServiceAddress, http_client, services
from ops.errors import Unreachable
from ops.output import cell, clear_terminal, print_json, print_out
from ops.status.concern import duration
from ops.status.figures import Figures, Room, ServiceFigures, figures, service_figures
from ops.status.health import Health, judge
from ops.status.minutes import over_minutes
from ops.status.seen import Look, look
from ops.status.stuck import Stuck, stuck

WINDOW_S: Final = 2.0
"""Between the two looks without --watch: the services look at the stream and their consumers once a second."""
LONGEST_S: Final = 120.0
"""With --watch, rates are those of the last two minutes and SECONDS at most."""
TIMEOUT_S: Final = 2.0
SOON_FULL_S: Final = 7 * 86_400.0
"""A generation that is full later than in a week rolls over before, by its age."""


NEVER_S: Final = 1_000 * 86_400.0


class Screen(NamedTuple):
    """All that is shown at an instant (UTC)."""

    at: datetime
    health: Health
    figures: Figures
    services: Sequence[ServiceFigures]
    stuck: Stuck = Stuck()


def check_answers(found: Look) -> None:
    """Raise Unreachable if no service has answered."""
    if all(seen.trouble for seen in found.services):
        raise Unreachable(
            f"no service answers: {found.services[0].trouble}\n"
            "Is the system running (`just up`), with these ports and BIND_HOST?"
        )


def screen(before: Look, after: Look, at: datetime) -> Screen:
    """Return what there is to show after two looks. Raises Unreachable if no service has answered the second one."""
    check_answers(after)
    seen = figures(before, after)
    return Screen(at, judge(before, after, seen), seen, service_figures(before, after))


async def completed(
    shown: Screen, addresses: Mapping[str, ServiceAddress], timeout_s: float, *, minutes: bool
) -> Screen:
    """Return the screen with what the looks do not tell: the orders that wait longest, and a dashboard's rates.

    Orders are asked for only if some have waited for too long. With `minutes` a running dashboard is asked; its rates
    are taken if they are over a longer time than the screen's. A service or dashboard that does not answer raises
    nothing. Raises SettingsError.
    """
    order = addresses["order"]
    async with http_client() as http:
        waiting = await stuck(http, order, shown.figures, timeout_s)
        seen = await over_minutes(http, os.environ, order, shown.figures) if minutes else shown.figures
    return shown._replace(stuck=waiting, figures=seen)


def rates_from(shown: Screen) -> str:
    """Say over how many seconds the rates are; if over few, also where to see them over a longer time."""
    window_s = shown.figures.window_s
    if window_s <= WINDOW_S * 2:
        return f"those of the last {window_s:g} s; a running dashboard, or --watch, has them over minutes"
    return f"those of the last {window_s:g} s"


# Output ---------------------------------------------------------------------------------------------------------------


def as_json(shown: Screen) -> dict[str, Any]:
    return {
        "at": shown.at,
        "well": shown.health.well,
        "sentence": shown.health.sentence,
        "concerns": [one._asdict() for one in shown.health.concerns],
        "figures": shown.figures._asdict() if shown.figures.known else None,
        "services": [one._asdict() for one in shown.services],
        "stuck": [one._asdict() for one in shown.stuck.orders],
    }


def concern_lines(health: Health) -> list[str]:
    """Return what needs attention as lines for a person: a heading, then each concern with its next step and commands.

    If all is well, it is one line, which says so; the list is never empty.
    """
    if health.well:
        return ["needs attention: nothing"]
    lines = ["needs attention:"]
    for number, one in enumerate(health.concerns, 1):
        lines.append(f"{number:>3}. {one.what}")
        lines.append(f"     next: {one.next_step}")
        lines += [f"       {command}" for command in one.commands]
    return lines


def stuck_lines(stuck: Stuck, at: datetime) -> list[str]:
    """Return the orders that wait longest, and what each waits for, as lines for a person; [] if no order is late.

    `at`: the instant to which their ages are counted. If the orders are not known, a line says why.
    """
    if stuck.trouble:
        return [f"which orders wait is not known: {stuck.trouble}", ""]
    if not stuck.orders:
        return []
    lines = ["waiting longest:"]
    for one in stuck.orders:
        age = duration(max(0.0, (at - one.since).total_seconds()))
        lines.append(f"  {one.order_id}  {one.status.lower()} for {age}: waits for {one.waits_for}")
        lines.append(f"       just trace {one.order_id}")
    return [*lines, ""]


def rate_lines(seen: Figures) -> list[str]:
    """Return the figures of all orders, of the stream and of the rooms as lines for a person.

    If they are not known, it is one line, which says so.
    """
    if not seen.known:
        return ["orders   unknown, and so is what waits and the stream: order_svc does not say"]
    times = (
        "no order ended"
        if seen.end_p50_s is None or seen.end_p99_s is None
        else f"half end within {duration(seen.end_p50_s)}, 99 % within {duration(seen.end_p99_s)}"
    )
    oldest = f" (the oldest for {duration(seen.oldest_pending_s)})" if seen.pending else ""
    of_limit = f" of {_size(seen.stream_limit_bytes)}" if seen.stream_limit_bytes else ""
    soon = seen.full_in_s is not None and seen.full_in_s < SOON_FULL_S
    full = f", full in {duration(seen.full_in_s or 0)} at this rate unless it rolls over" if soon else ""
    return [
        f"orders   {seen.accepted:,.1f}/s accepted, {seen.confirmed:,.1f}/s confirmed, "
        f"{seen.canceled:,.1f}/s canceled, {seen.refused:,.1f}/s refused; {times}",
        f"waiting  {seen.pending:,} in flight{oldest}, "
        f"{seen.uncompensated:,} canceled and not compensated, {count_of(seen.dead_letters, 'dead letter')}",
        f"stream   generation {seen.stream_generation}: {_size(seen.stream_bytes)}{of_limit}{full}",
        *room_lines(seen.rooms),
    ]


def room_lines(rooms: Sequence[Room]) -> list[str]:
    """Return one line for a person: what is free at the broker, and on the disk that is full first; [] if unknown."""
    broker = [room for room in rooms if room.where == "the broker"]
    disks = sorted((room for room in rooms if room.where != "the broker"), key=_fullness)
    told = [f"{_size(room.free_bytes)} free for {room.where}{_until(room)}" for room in [*broker, *disks[:1]]]
    return [f"room     {'; '.join(told)}"] if told else []


def _fullness(room: Room) -> tuple[float, int]:
    return (inf if room.full_in_s is None else room.full_in_s, room.free_bytes)


def _until(room: Room) -> str:
    if room.full_in_s is None or room.full_in_s > NEVER_S:
        return ", not full at this rate"
    if room.where == "the broker":
        return f", none for another generation in {duration(room.full_in_s)} unless older ones are archived"
    return f", full in {duration(room.full_in_s)} at the rate of the last hour"


def _size(count: int) -> str:
    return f"{count / 1_000_000_000:.1f} GB" if count >= 1_000_000_000 else f"{count / 1_000_000:.1f} MB"


def table(found: Sequence[ServiceFigures]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("service", "state"):
        made.add_column(column, no_wrap=True)
    for column in ("to publish", "to hear", "messages", "dead letters", "commit, 99 %"):
        made.add_column(column, justify="right", no_wrap=True)
    for one in found:
        commit = "-" if one.commit_p99_s is None else duration(one.commit_p99_s)
        lags = (duration(one.relay_lag_s), duration(one.consumer_lag_s), f"{one.pending_messages:,}")
        shown = (*lags, str(one.dead_letters), commit) if one.known else ("?",) * 5
        made.add_row(cell(one.service), one.state, *shown, style="" if one.state == "ready" else "red")
    return made


def show(shown: Screen, *, json: bool) -> None:
    if json:
        print_json(as_json(shown))
        return
    well = shown.health.well
    print_out(cell(shown.health.sentence), style="green" if well else "bold red", wrap=False)
    print_out(f"seen at {shown.at:%H:%M:%S} UTC; rates are {rates_from(shown)}\n")
    print_out("\n".join([*map(cell, concern_lines(shown.health)), ""]))
    if waiting := stuck_lines(shown.stuck, shown.at):
        print_out("\n".join(map(cell, waiting)))
    print_out("\n".join([*rate_lines(shown.figures), ""]))
    print_out(table(shown.services))


async def _watch(addresses: Mapping[str, ServiceAddress], every_s: float, timeout_s: float, *, json: bool) -> None:
    """Show a screen every `every_s` seconds, with rates over at most LONGEST_S + `every_s` seconds; does not return.

    While no service answers, it prints an error in place of the screen. Raises SettingsError.
    """
    looks: deque[Look] = deque([await look(addresses, timeout_s, os.environ)])
    while True:
        await asyncio.sleep(every_s)
        looks.append(await look(addresses, timeout_s, os.environ))
        while looks[-1].at - looks[1].at > LONGEST_S:
            looks.popleft()
        if not json:
            clear_terminal()
        try:
            shown = await completed(screen(looks[0], looks[-1], now()), addresses, timeout_s, minutes=False)
            show(shown, json=json)
        except Unreachable as error:
            print_out(cell(str(error)), error=True)


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="For machines; with --watch, a line for each screen.")
@click.option(
    "--watch",
    is_flag=False,
    flag_value=WINDOW_S,
    type=SecondsParameter(3_600, positive=True),
    metavar="[SECONDS]",
    help="Show it again every so many seconds (2 without a number), until Ctrl-C.",
)
@timeout_option(TIMEOUT_S)
@ending_well
def command(*, as_json: bool, watch: float | None, timeout: float) -> None:
    """Say whether all is well, what needs attention, and the next step.

    Asks all services for /readyz and /metrics, again after two seconds (--watch: SECONDS), order_svc for the orders
    that have waited for too long, and, without --watch, a running dashboard for the rates of the last minutes. It works
    while the broker or a service is away, and says so. A service that does not answer within --timeout is away.

    \b
    Exit code: 0 all is well; 1 something needs attention; 2 wrong usage; 3 no service answers. With --watch: 0 or 2
    Settings:  ORDER_PORT (8001) and the other ports, BIND_HOST (127.0.0.1)
    """
    addresses = services(os.environ)
    if watch is not None:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_watch(addresses, watch, timeout, json=as_json))
        return

    async def run() -> Screen:
        before = await look(addresses, timeout, os.environ)
        check_answers(before)
        await asyncio.sleep(WINDOW_S)
        shown = screen(before, await look(addresses, timeout, os.environ), now())
        return await completed(shown, addresses, timeout, minutes=True)

    shown = asyncio.run(run())
    show(shown, json=as_json)
    if not shown.health.well:
        end("", EXIT_FINDING)
