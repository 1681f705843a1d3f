"""The results of a bench for people: the medians as one table, then how the saga stands."""

from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.growth import Grown
from bench.report import Medians, Results, ratios


def show(results: Results, console: Console) -> None:
    """The medians as one table, then how the saga stands."""
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
    console.print(table)
    for grown in results.growth:
        console.print(_of_growth(grown), highlight=False)
    if found := ratios(results):
        standing = _table(f"the saga, medians of {results.runs}", "measured", "wanted", "", left=1)
        for says, measured, wanted, met in found:
            standing.add_row(says, f"{measured:,.2f}", wanted, "[green]met[/]" if met else "[red]missed[/]")
        console.print(standing)


VALUES: Final = ("per_s", "p50_ms", "p99_ms", "cpu_s_per_1000", "memory_mb")


def _beside_monolith(medians: Medians, phase: str, system: str) -> str:
    """How many times the monolith's orders a second it had, or where the rate was given, the monolith's p50."""
    value = "p50_ms" if phase in ("low", "half") else "per_s"
    mine, base = medians.get(phase, system, value), medians.get(phase, "monolith", value)
    return "" if mine is None or base is None else f"{mine / base:.2f}{' (p50)' if value == 'p50_ms' else ''}"


def _of_growth(grown: Grown) -> str:
    memory = ", ".join(f"{name} {mb:.0f}" for name, mb in grown.memory_mb.items())
    return (
        f"after {grown.facts:,} facts: cold start {median(grown.cold_start_s):.1f} s, CPU an order "
        f"{grown.cpu_ratio:.2f} × that of an empty system, memory in MB: {memory}"
    )


def _table(*columns: str, left: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right")
    return table
