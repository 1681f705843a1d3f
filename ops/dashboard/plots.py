"""Computes the parts of a small plot, from which a template makes an SVG. Pure: it makes no markup itself.

The dashboard plots the last quarter of an hour.
"""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Final, NamedTuple

WIDTH: Final = 320
HEIGHT: Final = 80


class Series(NamedTuple):
    """A line of a plot: what it shows (`name`), its CSS class (`kind`), and a value for each point; None: missing."""

    name: str
    kind: str
    values: Sequence[float | None]


class PlotLine(NamedTuple):
    """A series as SVG has it: the `path` of its line, in pieces where values are missing.

    `last`: the series' last value; None: it is missing, or there are no values.
    """

    name: str
    kind: str
    path: str
    last: float | None


class Plot(NamedTuple):
    """A plot of WIDTH times HEIGHT units. `top`: the value at its upper edge; the lower edge is 0.

    `limit`: the y of the objective's line, in units from the upper edge; None: there is no such line.
    """

    top: float
    lines: Sequence[PlotLine]
    limit: float | None


def plot(series: Sequence[Series], points: int, limit: float | None = None) -> Plot:
    """Return the plot of these series. Its width has room for the last `points` values, the newest at the right edge.

    `limit`: the value at which to draw the objective's line; None: no such line.
    """
    values = [value for one in series for value in one.values if value is not None]
    top = top_of(max([*values, limit or 0.0], default=0.0))
    return Plot(
        top,
        [
            PlotLine(one.name, one.kind, _path(one.values, points, top), one.values[-1] if one.values else None)
            for one in series
        ],
        None if limit is None else round(_y(limit, top), 1),
    )


def top_of(value: float) -> float:
    """Return the least of 1, 2 and 5 times a power of ten that is not below the value, such as 0.2 or 50.

    Returns 1 for a value of 0 or less.
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    digit = next((one for one in (1, 2, 5) if value <= one * power * (1 + 1e-9)), 10)
    return round(digit * power, max(0, ceil(-log10(power))))


def _path(values: Sequence[float | None], points: int, top: float) -> str:
    shown = list(values)[-points:]
    step = WIDTH / max(points - 1, 1)
    left = WIDTH - step * (len(shown) - 1)
    parts, pen = [], "M"
    for number, value in enumerate(shown):
        if value is None:
            pen = "M"
            continue
        parts.append(f"{pen}{left + number * step:.1f} {_y(value, top):.1f}")
        pen = "L"
    return " ".join(parts)


def _y(value: float, top: float) -> float:
    return HEIGHT - min(value, top) / top * HEIGHT
