"""Draws the bench's results: orders a second, CPU, and latency."""

from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import Medians, Results

COLOURS: Final = {
    "saga": "#0b6e4f",
    "one-process": "#8d99ae",
    "monolith": "#d1495b",
    "faststream": "#edae49",
    "dbos": "#30638e",
}
PANELS: Final = (
    ("per_s", "orders a second", ("c64", "c256", "hot", "mix")),
    ("cpu_s_per_1000", "CPU seconds per 1,000 orders", ("c64", "c256", "hot", "mix")),
    ("p50_ms", "latency, median, ms", ("low", "half")),
    ("p99_ms", "latency, 99th percentile, ms", ("low", "half")),
)
BARS: Final = 0.81  # of the space between two phases


def draw(results: Results, path: Path) -> None:
    """Draw the results as SVG or PNG, by the path's suffix."""
    medians = Medians(results)
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    for axes, (value, title, phases) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        _panel(axes, medians, value, phases)
        axes.set_title(title, loc="left", fontsize=11)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(COLOURS), frameon=False
    )
    figure.suptitle(
        f"{results.machine}\ncommit {results.commit}, medians of {results.runs}", fontsize=8, x=0.01, ha="left"
    )
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axes: Axes, medians: Medians, value: str, phases: tuple[str, ...]) -> None:
    measured = [phase for phase in phases if medians.get(phase, "saga", value) is not None]
    systems = [system for system in COLOURS if any(system == other for _, other in medians.measured)]
    width = BARS / max(1, len(systems))
    for number, system in enumerate(systems):
        heights = [medians.get(phase, system, value) or 0.0 for phase in measured]
        places = [place + (number - (len(systems) - 1) / 2) * width for place in range(len(measured))]
        bars = axes.bar(places, heights, width, label=system, color=COLOURS[system])
        axes.bar_label(bars, [f"{height:,.{0 if height >= 100 else 2}f}" for height in heights], fontsize=7)
    axes.set_xticks(range(len(measured)), measured)
    axes.spines[["top", "right"]].set_visible(False)
