"""The command `orders audit`: its options, its progress bar, and its report for people."""

import os
from datetime import timedelta
from math import isnan
from pathlib import Path
from typing import Final

import rich_click as click
import uvloop
from rich.table import Table
from rich.text import Text

from contracts import origin
from contracts.newer import NEXT_STEP
from ops import data, operators
from ops.audit.report import RULES, AuditReport, NewerCode, NotAReport
from ops.audit.run import Options, audit
from ops.cli import EXIT_FINDING, EXIT_NEWER, SecondsParameter, WholeNumber, end, ending_well, timeout_option
from ops.client import TIMEOUT_S
from ops.foreign import ALL
from ops.output import cell, print_json, print_out
from ops.progress import progress_option, watched

SHOWN: Final = 20  # findings


class MessageSequence(click.ParamType[str]):
    """A parameter that is a sequence of EVENTS, from 1, or `all`; its value stays a text."""

    name = "sequence"

    def convert(self, value: str, param: click.Parameter | None, context: click.Context | None) -> str:
        if value != ALL and not origin.number(value):
            self.fail(f"{value!r} is neither a sequence of the stream nor `{ALL}`", param, context)
        return value


@click.command("audit")
@click.option(
    "--full",
    is_flag=True,
    help="Begin at the beginning, not at the last checkpoint; check all of each store's file, and the archive's files.",
)
@click.option(
    "--at-rest",
    is_flag=True,
    help="No order is in flight: every order must have ended, every fact be in log and stream.",
)
@click.option(
    "--grace",
    default=60.0,
    show_default=True,
    type=SecondsParameter(1e9, positive=False),
    help="Seconds an order may take beyond its deadline.",
)
@click.option(
    "--answers",
    default=200,
    show_default=True,
    type=WholeNumber(0, 1_000_000),
    help="How many of each, of products, accounts, coupons and orders (those changed last), the services are asked "
    "about at most.",
)
@click.option("--backup", is_flag=True, help="The stream is a restored backup: it may end before the logs do.")
@click.option(
    "--foreign",
    multiple=True,
    type=MessageSequence(),
    metavar="SEQUENCE",
    help="This message of the stream is foreign, and known: it is no finding any more. `all`: every one found. "
    "Services that are not ready are not asked then.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, dir_okay=False),
    help="An earlier report, which the logs must still match. Default: the last one, if it had no findings.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="For report and checkpoint. Default: DATA_DIR/audit; with --backup DATA_DIR/audit-backup.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines: the report.")
@timeout_option(TIMEOUT_S)
@progress_option
@ending_well
def command(
    *,
    full: bool,
    at_rest: bool,
    grace: float,
    answers: int,
    backup: bool,
    foreign: tuple[str, ...],
    against: Path | None,
    folder: Path | None,
    as_json: bool,
    timeout: float,
    progress: bool,
) -> None:
    """Prove that nothing was lost, doubled or forged, on the running system.

    Both copies of history, the services' logs (from DATA_DIR) and the stream, are read up to a consistent cut. They are
    compared fact by fact and added up: stock, points, coupons, and the end of every order. Without --at-rest, an order
    in flight is no finding until its deadline and --grace are over.

    The report (report.json) has a SHA-256 chain over each log. An audit that ends with exit code 0 leaves a checkpoint.
    Without --full, the next audit of the same code continues from there if nothing before the checkpoint was changed.
    Otherwise it begins at the beginning; a log that was changed is a finding. If you do not trust the operator of the
    system, keep the reports elsewhere and give one to --against.

    The logs of what operators did (`orders operators`) are held against their chains of hashes, too; what was changed
    there is told on standard error, with exit code 1.

    Exit code 4: nothing was found, but newer code recorded facts that this version cannot judge.
    """
    if isnan(grace):
        raise click.BadParameter("a number of seconds", param_hint="--grace")
    folder = folder or data.of_audit(os.environ, backup=backup)
    options = Options(folder, timedelta(seconds=grace), at_rest, full, against, answers, backup, foreign, timeout)
    with watched(as_lines=progress) as watch:
        try:
            made = uvloop.run(audit(os.environ, options, watch))
        except NotAReport as error:
            raise click.UsageError(str(error)) from error
    if as_json:
        print_json(made)
    else:
        show(made, folder / "report.json")
    changed = list(operators.damages(os.environ))
    if not made.good:
        end("\n".join(changed), EXIT_FINDING if made.findings or changed else EXIT_NEWER)
    if changed:
        end("\n".join(changed), EXIT_FINDING)


def _show_newer(newer: NewerCode) -> None:
    if newer.facts:
        counts = Table(box=None, pad_edge=False, header_style="bold")
        for column in (f"{newer.facts:,} facts of newer code, not judged", "what"):
            counts.add_column(column, overflow="fold")
        for where, what in newer.first[:SHOWN]:
            counts.add_row(cell(where), cell(what))
        print_out(counts)
        print_out(f"Nothing is damaged: {NEXT_STEP}, and audit with it.")
    if newer.fields:
        shown = cell(", ".join(newer.fields[:SHOWN]))
        print_out(f"Newer code may have recorded fields that this version ignores: {shown}")


def show(made: AuditReport, path: Path) -> None:
    """Print the report for a person: what was read, the status of all orders, and the first SHOWN findings.

    `path`: the file with the whole report.
    """
    counts = Table(box=None, pad_edge=False, show_header=False)
    counts.add_column()
    counts.add_column(justify="right")
    for name, log in made.logs.items():
        counts.add_row(f"{name}_svc's log", f"{log.records:,} facts")
    new = "new messages" if made.since is not None else "messages"
    counts.add_row("the stream, read now", f"{made.stream.messages:,} {new}")
    if made.foreign.known or made.foreign.found:
        counts.add_row("foreign, of these", f"{made.foreign.found:,} found, {made.foreign.known:,} known")
    for status, number in made.orders.items():
        counts.add_row(cell(status), f"{number:,} orders")
    for kind, number in made.subjects.items():
        if kind != "orders":
            counts.add_row(kind, f"{number:,}")
    counts.add_row("answers compared", f"{made.answers.compared:,} ({made.answers.moved_on:,} had moved on)")
    print_out(counts)
    for name in made.answers.not_asked:
        print_out(f"not asked: {name}_svc, as it is not ready")
    _show_newer(made.newer_code)
    if made.since is not None:
        print_out(f"Everything before {made.since.made_at.isoformat()} is unchanged since it was audited.")
    if not made.findings and made.newer_code.facts:
        print_out(
            Text.assemble(
                ("not judged", "yellow"), f": facts of newer code; nothing else was found. The report: {path}"
            )
        )
        return
    if made.good:
        print_out(Text.assemble(("good", "green"), f": nothing was found, in {made.took_s:.1f} s. The report: {path}"))
        return
    found = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "where", "what"):
        found.add_column(column, overflow="fold")
    for finding in made.findings[:SHOWN]:
        found.add_row(str(finding.invariant), cell(finding.where), cell(finding.what))
    print_out(found)
    for rule, number in made.findings_by_rule.items():
        print_out(f"{number:>6,} against {rule}: {RULES[rule]}")
    first = made.findings[0]
    where = f"{cell(first.where)} {cell(first.what)}"
    print_out(Text.assemble(("findings", "red"), f"; the first: {where}. The report: {path}"))
