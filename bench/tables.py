"""The results of a bench for people: the medians as one table, then the comparison with the targets."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.growth import Grown
from bench.overload import Latency, Overloaded
from bench.report import Medians, Results, ratios


def show(results: Results, console: Console) -> None:
    """The medians as one table, then the comparison with the targets."""
    medians = Medians(results)
    table = _table("phase", "system", "orders/s", "p50 ms", "p99 ms", "CPU s / 1,000", "MB", "× monolith", left=2)
    last = ""
    for phase, system in medians.measured:
        numbers = [medians.get(phase, system, value) or 0.0 for value in VALUES]
        shown = [f"{number:,.{digits}f}" for number, digits in zip(numbers, (0, 1, 1, 2, 0), strict=True)]
        table.add_row(phase if phase != last else "", system, *shown, _beside_monolith(medians, phase, system))
        last = phase
    for ceiling in results.ceilings:
        per_1000 = f"{ceiling.cpu_s_per_1000:.3f}"
        table.add_row(ceiling.name, ceiling.says, f"{ceiling.facts_per_s:,.0f} facts", "", "", per_1000, "", "")
    if table.rows:
        console.print(table)
    for grown in results.growth:
        console.print(_of_growth(grown), highlight=False)
    if results.overload:
        console.print(_of_overload(results.overload))
    if found := ratios(results):
        once = "; overloads once" if results.overload else ""
        standing = _table(f"the saga, medians of {results.runs}{once}", "measured", "wanted", "", left=1)
        for says, measured, wanted, met in found:
            standing.add_row(says, f"{measured:,.2f}", wanted, "[green]met[/]" if met else "[red]missed[/]")
        console.print(standing)


VALUES: Final = ("per_s", "p50_ms", "p99_ms", "cpu_s_per_1000", "memory_mb")


def _beside_monolith(medians: Medians, phase: str, system: str) -> str:
    """The system's orders a second as a multiple of the monolith's.

    Where the rate was given, its p50 as a multiple of the monolith's p50.
    """
    value = "p50_ms" if phase in ("low", "half") else "per_s"
    mine, base = medians.get(phase, system, value), medians.get(phase, "monolith", value)
    return "" if mine is None or base is None else f"{mine / base:.2f}{' (p50)' if value == 'p50_ms' else ''}"


def _of_growth(grown: Grown) -> str:
    memory = ", ".join(f"{name} {mb:.0f}" for name, mb in grown.memory_mb.items())
    return (
        f"after {grown.facts:,} facts: cold start {median(grown.cold_start_s):.1f} s, CPU an order "
        f"{grown.cpu_ratio:.2f} × that of an empty system, memory in MB: {memory}"
    )


def _of_overload(overload: Sequence[Overloaded]) -> Table:
    table = _table("overload", *(f"{one.lines} to an order" for one in overload), left=1)

    def row(says: str, value: Callable[[Overloaded], str]) -> None:
        table.add_row(says, *map(value, overload))

    row("orders/s it can do, 256 clients", lambda one: f"{one.sustained_per_s:,.0f}")
    row("orders/s that came", lambda one: f"{one.offered_per_s:,.0f}")
    row("of which found a connection", lambda one: f"{one.sent_per_s:,.0f}")
    row("orders/s accepted", lambda one: f"{one.accepted_per_s:,.0f}")
    row("answers", lambda one: ", ".join(f"{status}: {count:,}" for status, count in one.statuses.items()))
    row("accepted: p50 / p99 ms", lambda one: _latency(one.accepted))
    row("refused: p50 / p99 ms", lambda one: _latency(one.refused))
    row("half as many before: p50 / p99 ms", lambda one: _latency(one.before))
    row("refused then", lambda one: f"{one.refused_before:,}")
    row("half as many after: p50 / p99 ms", lambda one: _latency(one.after))
    row("refused then", lambda one: f"{one.refused_after:,}")
    row("as before after, s", lambda one: "never" if one.normal_after_s is None else f"{one.normal_after_s:.1f}")
    for name in overload[0].memory_mb:
        row(f"{name}: MB before; by quarters", lambda one, name=name: _memory(one, name))  # type: ignore[misc]
    return table


def _latency(latency: Latency) -> str:
    return f"{latency.p50_ms:,.0f} / {latency.p99_ms:,.0f}"


def _memory(overloaded: Overloaded, name: str) -> str:
    quarters = ", ".join(f"{mb:,.0f}" for mb in overloaded.memory_mb[name])
    return f"{overloaded.memory_before_mb[name]:,.0f}; {quarters}"


def _table(*columns: str, left: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right")
    return table
