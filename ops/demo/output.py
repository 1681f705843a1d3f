"""What `just demo` prints: facts, answers and balances, as lines of a terminal."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from contracts.wire import COMPENSATIONS, said_by
from ops.cli import uv
from ops.client import ServiceAnswer
from ops.demo.witness import PublishedFact
from ops.details import detail

COLOURS: Final = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def coloured(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOURS else text


def bold(text: str) -> str:
    return coloured("1", text)


def story(facts: Sequence[PublishedFact]) -> list[str]:
    """Return a line for each fact: milliseconds since the first of them, service, fact, detail.

    Compensations are red and marked by an arrow.
    """
    lines = []
    for said in facts:
        since_ms = (said.fact.at - facts[0].fact.at).total_seconds() * 1_000
        mark = "↩" if said.name in COMPENSATIONS else " "
        line = f"   {since_ms:6.1f} ms  {said_by(said.name):<7} {mark} {said.name:<22}  {detail(said.fact)}".rstrip()
        lines.append(coloured("31", line) if said.name in COMPENSATIONS else line)
    return lines


def verdict(answer: ServiceAnswer) -> str:
    if answer.status == 200:
        return coloured("32", "=> 200 CONFIRMED")
    told = answer.body
    return f"=> {answer.status} {told.get('order_status', '')} {told.get('detail', '')}"


def table(balances: Sequence[Mapping[str, int | str]]) -> str:
    """Return the balances as a table: a row for each balance, a column for each of `balances`.

    `balances` has the balances at the start, then those after each order.
    """
    titles = ["at first", *(f"after {number}" for number in range(1, len(balances)))]
    rows = [bold(f"{'Balances':<18}" + "".join(f"{title:>10}" for title in titles))]
    for name in balances[0]:
        values = [balance[name] for balance in balances]
        cells = (f"{value:,}" if isinstance(value, int) else str(value) for value in values)
        rows.append(f"{name:<18}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(rows)


def just() -> str:
    """Return the command with which the user can start another recipe: `just`, or `just` by this process's uv."""
    return f"{uv()} run just" if os.environ.get("UV") else "just"
