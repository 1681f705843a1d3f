"""Counts and sums of rows per day and kind. Those of the log and those of the dataset have to be equal."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from infra.export.rows import Dataset, Row

Key = tuple[date, str]
"""The UTC day and the kind of a row."""

Totals = dict[Key, list[int]]
"""For each day and kind with rows: the number of rows, then the sum of each field in the dataset's `sums`."""


def count(totals: Totals, dataset: Dataset, rows: Iterable[Row]) -> None:
    """Add these rows to `totals`, in place; adding a row twice counts it twice."""
    for row in rows:
        add(totals, (row.day, row.kind), [1, *(getattr(row, name) or 0 for name in dataset.sums)])


def add(totals: Totals, key: Key, numbers: list[Any]) -> None:
    """Add `numbers`, one by one, to those that `totals` has for this day and kind (none: set them), in place."""
    there = totals.get(key)
    totals[key] = numbers if there is None else [a + b for a, b in zip(there, numbers, strict=True)]
