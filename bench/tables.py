"""The results of a bench for people: the medians as one table, then the comparison with the targets."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import secured
from bench.growth import Grown
from bench.overload import Latency, Overloaded
from bench.report import Medians, Results, ratios
from bench.watched import Cost, costs
from bench.years import Long, Rolled, Steady, Tenth


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
    if results.years:
        for long in filter(None, (results.years.many, results.years.one)):
            console.print(_of_long(long))
        if results.years.steady:
            console.print(_of_steady(results.years.steady), highlight=False)
        if results.years.rolled:
            console.print(_of_rolled(results.years.rolled))
    if secured_costs := costs(results.secured, secured.COMPARED):
        console.print(_of_costs(secured_costs, "secured: c64"))
    if found_costs := costs(results.watched):
        console.print(_of_costs(found_costs, "watched: c64"))
    if found := ratios(results):
        parts = [("overloads", results.overload), ("long and steady runs", results.years)]
        once = "".join(f"; {name} once" for name, measured in parts if measured)
        standing = _table(f"the saga, medians of {results.runs}{once}", "measured", "wanted", "", left=1)
        for says, measured, wanted, met in found:
            standing.add_row(says, f"{measured:,.2f}", wanted, "[green]met[/]" if met else "[red]missed[/]")
        console.print(standing)


VALUES: Final = ("per_s", "p50_ms", "p99_ms", "cpu_s_per_1000", "memory_mb")


def _beside_monolith(medians: Medians, phase: str, system: str) -> str:
    """The system's orders a second as a multiple of the monolith's.

    Where the rate was given, its p50 as a multiple of the monolith's p50.
    """
    value = "p50_ms" if phase in ("low", "half") or phase.endswith("%") else "per_s"
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


def _of_long(long: Long) -> Table:
    """Each tenth's figures, and how many times the first one's they are."""
    processes = list(long.tenths[0].cpu_ms)
    who = "one user" if long.users == 1 else f"{long.users:,} users"
    table = _table(
        f"tenths of {sum(tenth.orders for tenth in long.tenths):,} orders by {who}",
        *map(str, range(1, len(long.tenths) + 1)),
        left=1,
    )

    def row(says: str, value: Callable[[Tenth], float], digits: int = 0) -> None:
        values = [value(tenth) for tenth in long.tenths]
        table.add_row(says, *(f"{number:,.{digits}f}" for number in values))
        if values[0]:
            table.add_row("  × first", *(f"{number / values[0]:.2f}" for number in values))

    row("orders/s", lambda tenth: tenth.per_s)
    row("p50 ms", lambda tenth: tenth.p50_ms)
    row("p99 ms", lambda tenth: tenth.p99_ms)
    row("p99.9 ms", lambda tenth: tenth.p999_ms)
    row("slowest ms", lambda tenth: tenth.max_ms)
    for name in processes:
        row(f"{name}: CPU ms an order", lambda tenth, name=name: tenth.cpu_ms[name], 3)  # type: ignore[misc]
    for name in processes:
        row(f"{name}: MB", lambda tenth, name=name: tenth.memory_mb[name])  # type: ignore[misc]
    if long.refused:
        table.caption = f"{long.refused:,} orders were refused"
    return table


def _of_steady(steady: Steady) -> str:
    memory = ", ".join(f"{name} {mb:.0f}" for name, mb in steady.memory_mb.items())
    return (
        f"{steady.rate:.0f} orders a second on {steady.subjects:,} subjects, {steady.orders:,} in all: "
        f"p50 {steady.p50_ms:.1f} ms, p99 {steady.p99_ms:.1f} ms, p99.9 {steady.p999_ms:.1f} ms, "
        f"slowest {steady.max_ms:.1f} ms, {steady.refused:,} refused; memory in MB: {memory}"
    )


def _of_rolled(rolled: Rolled) -> Table:
    """Each block's figures."""
    table = _table(
        "rolled over", "orders", "orders/s", "p99 ms", "slowest ms", "refused", "archived", "nats MB", left=0
    )
    for number, one in enumerate(rolled.blocks, 1):
        speed = [f"{one.per_s:,.0f}", f"{one.p99_ms:,.0f}", f"{one.max_ms:,.0f}"]
        counts = [f"{one.refused:,}", f"{one.archived}", f"{one.broker_mb:,.0f}"]
        table.add_row(f"{number}", f"{one.orders:,}", *speed, *counts)
    return table


def _of_costs(found: Sequence[Cost], what: str) -> Table:
    table = _table(what, "beside", "pairs", "orders/s, ×", "95 % interval", "CPU an order, ×", left=2)
    for cost in found:
        interval = f"{cost.low:.3f} to {cost.high:.3f}"
        table.add_row(cost.of, cost.beside, f"{cost.pairs}", f"{cost.per_s:.3f}", interval, f"{cost.cpu:.3f}")
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
