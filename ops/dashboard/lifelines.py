"""Lays out a picture of services and facts: a line for each service, a row for each fact with arrows to its hearers.

Both the page of one order and the map of the whole flow are drawn so. Pure; templates turn a Drawing into SVG. All x
and y are in units of the SVG, from its upper left corner. A `kind` is a text of CSS classes.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

LEFT: Final = 84
COLUMN: Final = 170
TOP: Final = 34
ROW: Final = 40
RIGHT: Final = 120
HEAD: Final = 7


class Hearer(NamedTuple):
    """A service that hears the fact of a row. `kind`: CSS classes of its arrow; `note`: a text at the arrow's head."""

    service: str
    kind: str = ""
    note: str = ""


class FactRow(NamedTuple):
    """A fact, the service that says it, and who hears it. `kind`: CSS classes of its row; `margin`: a text at its left.

    `link`: the address to which a click on the fact's name leads; empty: nowhere.
    """

    fact: str
    service: str
    hearers: Sequence[Hearer] = ()
    kind: str = ""
    margin: str = ""
    link: str = ""


class Arrow(NamedTuple):
    """An arrow of a row: `start`, `end` and `note_x` are x; `head` are the points of its triangle, as in SVG."""

    start: int
    end: int
    head: str
    kind: str
    note: str
    note_x: int


class DrawnRow(NamedTuple):
    """A row at the height `y`, with the fact's dot at `x`. `anchor`: `start` or `end`, the name's SVG text-anchor."""

    row: FactRow
    y: int
    x: int
    anchor: str
    arrows: Sequence[Arrow]


class Drawing(NamedTuple):
    """The whole picture: its size, the x of each service's line, and the rows from above."""

    width: int
    height: int
    columns: Sequence[tuple[str, int]]
    rows: Sequence[DrawnRow]


def draw(rows: Sequence[FactRow], services: Sequence[str]) -> Drawing:
    """Return the picture of these rows, with a column for each of the services, and of those that rows name besides.

    A service that hears its own fact gets no arrow.
    """
    named = [name for row in rows for name in (row.service, *(hearer.service for hearer in row.hearers))]
    columns = {name: LEFT + number * COLUMN for number, name in enumerate(dict.fromkeys([*services, *named]))}
    return Drawing(
        LEFT + COLUMN * (len(columns) - 1) + RIGHT,
        TOP + ROW * len(rows) + ROW // 2,
        list(columns.items()),
        [_row(row, TOP + ROW * (number + 1), columns) for number, row in enumerate(rows)],
    )


def _row(row: FactRow, y: int, columns: dict[str, int]) -> DrawnRow:
    x = columns[row.service]
    last = x == max(columns.values()) and len(columns) > 1
    arrows = [_arrow(hearer, x, columns[hearer.service], y) for hearer in row.hearers if hearer.service != row.service]
    return DrawnRow(row, y, x, "end" if last else "start", arrows)


def _arrow(hearer: Hearer, start: int, end: int, y: int) -> Arrow:
    back = HEAD if end < start else -HEAD
    head = f"{end},{y} {end + back},{y - 4} {end + back},{y + 4}"
    return Arrow(start, end + back, head, hearer.kind, hearer.note, end + 2 * back)
