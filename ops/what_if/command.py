"""The command `orders what-if`: chooses where history comes from, and shows the differences."""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import IO, Any

import msgspec
import rich_click as click
from msgspec import UNSET
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from contracts.newer import NEXT_STEP
from infra.local.services import service_names
from infra.process.service import Service
from ops.cli import LARGEST, WholeNumber, ending_well
from ops.errors import Found, RecordedByNewerCode
from ops.output import cell, console, escaped_json, print_out
from ops.replay.lines import bounded
from ops.what_if import logs
from ops.what_if.difference import Changed, Difference
from ops.what_if.history import BadHistory, RecordedHistory, read
from ops.what_if.judge import Code
from ops.what_if.report import SHOWN, WhatIfReport, decide_again, work


def codes() -> list[Code]:
    """Import all services of the working tree and return the code of each, as the service runs it."""
    found: list[Service] = [import_module(f"{name}_svc.__main__").SERVICE for name in service_names()]
    return [Code(service.name, service.aggregates, service.reactions) for service in found]


async def run(env: Mapping[str, str], lines: IO[bytes] | None, most: int) -> WhatIfReport:
    """Decide again the history in these lines (of `orders replay`), or, if they are None, in the logs that `env` names.

    `most`: how many differences the report keeps. Progress goes to a terminal on standard error. Raises BadHistory,
    Unreachable, SettingsError.
    """
    tree = codes()
    if lines is not None:
        history = read(bounded(lines))
        if history.foreign:
            print_out(f"{history.foreign:,} foreign messages are passed over: no service published them", error=True)
        return await _watched(history, tree, most)
    owners = {category: code.name for code in tree for category in code.aggregates}
    async with logs.opened(env, owners) as opened:
        return await _watched(opened, tree, most)


async def _watched(history: RecordedHistory, tree: Sequence[Code], most: int) -> WhatIfReport:
    errors = console(error=True)
    columns = TextColumn("deciding again"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn()
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("", total=work(history, tree))
        return await decide_again(history, tree, most, lambda positions: progress.advance(task, positions))


# Output ---------------------------------------------------------------------------------------------------------------


def lines(difference: Difference) -> Iterator[tuple[str, str]]:
    """Yield the difference as lines for a person: pairs of text and Rich style (empty: none)."""
    place = "at the end of its log"
    if difference.position is not None:
        place = f"position {difference.position}, {difference.fact_id}"
    because = f" because of {difference.heard or 'a fact'} ({difference.cause})" if difference.cause else ""
    yield f"{difference.service}_svc, {place}{because}", "bold"
    yield f"  recorded  {', '.join(difference.recorded) or 'nothing'}", ""
    if difference.kind in ("unreadable", "newer"):
        now = "cannot be read"
    elif difference.kind == "fails":
        now = "fails"
    else:
        now = ", ".join(difference.now) or "nothing"
    yield f"  now       {now}", "red"
    for changed in difference.fields:
        yield f"            {changed.fact} {changed.field}: {_sides(changed)}", ""
    if difference.why:
        yield f"            {difference.why}", ""


def _sides(changed: Changed) -> str:
    return " → ".join(_value(value) for value in (changed.recorded, changed.now))


def _value(value: Any) -> str:
    return "(missing)" if value is UNSET else msgspec.json.encode(value).decode()


def summary(report: WhatIfReport) -> str:
    """Return the counts of the report as one line for a person."""
    by_service = ", ".join(
        f"{name}_svc {counts.differences:,} in {counts.decisions:,}" for name, counts in report.services.items()
    )
    text = f"{report.total('differences'):,} differences in {report.total('decisions'):,} decisions: {by_service}; "
    text += f"{report.total('given'):,} facts given, {report.total('asked'):,} asked again"
    if report.total("open"):
        text += f"; {report.total('open'):,} at the end still to be answered"
    if report.total("unjudged"):
        text += f"; {report.total('unjudged'):,} decisions not judged, for their streams cannot be folded"
    if report.total("newer"):
        text += f"; {report.total('newer'):,} facts of newer code, not judged: {NEXT_STEP}"
    return text


def document(report: WhatIfReport) -> bytes:
    names = ("decisions", "differences", "given", "asked", "open", "unjudged", "newer")
    counts = {name: report.total(name) for name in names}
    return msgspec.json.encode({**counts, "services": report.services, "shown": report.differences})


def show(report: WhatIfReport) -> None:
    for difference in report.differences:
        for text, style in lines(difference):
            print_out(cell(text), style=style, wrap=False)
    left = report.total("differences") + report.total("newer") - len(report.differences)
    if left:
        print_out(f"… and {left:,} more: --limit")
    print_out(summary(report))


@click.command("what-if")
@click.option("--history", type=click.File("rb"), metavar="FILE", help="As `just replay` prints it; - reads stdin.")
@click.option("--limit", type=WholeNumber(0, LARGEST), default=SHOWN, show_default=True, help="Differences shown.")
@click.option("--json", "as_json", is_flag=True, help="For machines: the counts and the differences shown.")
@ending_well
def command(history: IO[bytes] | None, limit: int, as_json: bool) -> None:
    """Decide recorded history again with the code in the working tree, and list the decisions that would differ.

    Each service's log is folded from its beginning. Each decision is made again before its facts are folded. Requests
    of clients and the timer of the deadlines are given. In the end every fact that was heard is decided once more and
    must lead to no new fact. Exit code 1: there are differences; 4: there are none, but facts of newer code.

    Without --history it reads the logs below DATA_DIR, whether the services run or not. A file for --history takes
    their place; it must be a whole history, from its beginning.
    """
    try:
        report = asyncio.run(run(os.environ, history, limit))
    except BadHistory as error:
        raise click.BadParameter(str(error), param_hint="--history") from error
    if as_json:
        print_out(escaped_json(document(report)))
    else:
        show(report)
    if report.total("differences"):
        raise Found
    if report.total("newer"):
        raise RecordedByNewerCode
