"""Counts and sums per day and kind, of the log or of the dataset. The two must be equal."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from infra.export.rows import Dataset, Row

Key = tuple[date, str]
"""(UTC day, kind)."""

Totals = dict[Key, list[int]]
"""The number of rows, then the sum of each field in the dataset's `sums`."""


def count(totals: Totals, dataset: Dataset, rows: Iterable[Row]) -> None:
    """Add these rows to the totals."""
    for row in rows:
        add(totals, (row.day, row.kind), [1, *(getattr(row, name) or 0 for name in dataset.sums)])


def add(totals: Totals, key: Key, numbers: list[Any]) -> None:
    """Add `numbers` to those of this day and kind."""
    there = totals.get(key)
    totals[key] = numbers if there is None else [a + b for a, b in zip(there, numbers, strict=True)]
