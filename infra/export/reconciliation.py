"""Counts and sums the rows of the log and of the dataset, and compares the two."""

from typing import NamedTuple

from infra.export.rows import Dataset, ExportPosition
from infra.export.sink import Sink
from infra.export.source import Log, chunks, to_row
from infra.export.totals import Key, Totals, count


class Comparison(NamedTuple):
    """The totals of log and dataset, up to and including `through`, the sink's position."""

    through: ExportPosition
    log: Totals
    dataset: Totals

    @property
    def keys(self) -> list[Key]:
        return sorted({*self.log, *self.dataset})

    @property
    def different(self) -> list[Key]:
        return [key for key in self.keys if self.log.get(key) != self.dataset.get(key)]


async def compare(log: Log, dataset: Dataset, sink: Sink, through: ExportPosition) -> Comparison:
    """Compare the totals of log and dataset up to and including `through`, the sink's position.

    An export may run meanwhile: the rows that it writes are after that position and do not count. But the sink must
    not be rewound meanwhile. Raises StoreError, Unavailable, SinkError, Unexportable.
    """
    there = await sink.totals(through)
    return Comparison(through, await totals_of(log, dataset, through), there)


async def totals_of(log: Log, dataset: Dataset, through: ExportPosition) -> Totals:
    """Count and sum the log's rows up to and including this position. Raises StoreError, Unexportable."""
    totals: Totals = {}
    async for records in chunks(log, dataset, 0):
        rows = [to_row(dataset, record) for record in records if record.position <= through.position]
        count(totals, dataset, rows)
        if len(rows) < len(records):
            break
    return totals


def table(dataset: Dataset, compared: Comparison) -> str:
    """Format the comparison as text: titles, then a line for each day and kind.

    Where the two differ, log and dataset have a line each.
    """
    titles = ["day", "kind", "", dataset.name, *dataset.sums]
    lines: list[list[str]] = []
    for key in compared.keys:
        day, kind = key[0].isoformat(), key[1]
        if key in compared.different:
            lines.append([day, kind, "log", *_numbers(dataset, compared.log.get(key))])
            lines.append([day, kind, "dataset", *_numbers(dataset, compared.dataset.get(key))])
        else:
            lines.append([day, kind, "=", *_numbers(dataset, compared.log.get(key))])
    widths = [max(len(line[column]) for line in [titles, *lines]) for column in range(len(titles))]
    return "\n".join(
        "  ".join(cell.ljust(width) if column < 3 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in [titles, *lines])
    )


def _numbers(dataset: Dataset, numbers: list[int] | None) -> list[str]:
    return [f"{number:,}" for number in numbers] if numbers else ["-"] * (1 + len(dataset.sums))


def verdict(compared: Comparison) -> str:
    through = f"through position {compared.through.position}"
    if not compared.different:
        return f"equal, {through}"
    days = dict.fromkeys(day.isoformat() for day, _ in compared.different)
    return f"DIFFERENT, {through}: {', '.join(days)}"
