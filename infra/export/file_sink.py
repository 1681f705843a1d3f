"""Writes rows as Parquet files, one folder per day: `date=2026-01-31/<first>-<last>.parquet`, named by log positions.

The files are the only state. The ranges of their names never overlap and are written in the log's order, so the export
continues after the highest one. A file gets its name when it is whole and on the disk.
"""

import asyncio
import contextlib
import re
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra import files
from infra.export import arrow
from infra.export.errors import SinkError, Unavailable
from infra.export.lock import one_export
from infra.export.rows import START, Dataset, ExportPosition, Row
from infra.export.sink import Limits
from infra.export.totals import Totals, add

DIGITS: Final = 16  # of a position in a name, so that names sort as positions do
NAME: Final = re.compile(rf"(\d{{{DIGITS}}})-(\d{{{DIGITS}}})\.parquet")


class Range(NamedTuple):
    """One committed file, at `path`, and the log positions of its first and its last row."""

    first: int
    last: int
    path: Path


class FileSink:
    """Writes a dataset's rows as Parquet files below `folder`: the sink for EXPORT_SINK=file."""

    def __init__(self, dataset: Dataset, folder: Path, limits: Limits) -> None:
        self._dataset = dataset
        self._folder = folder
        self.limits = limits
        self._last = 0  # position; known while the lock is held

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        with one_export(self._folder / ".lock", str(self._folder)):
            ranges = self.ranges()  # refuses files of others before anything is changed
            self._last = ranges[-1].last if ranges else 0
            self._clear()
            yield

    def _clear(self) -> None:
        """Remove the unfinished files that a crash left. The export reads their rows again. Raises SinkError."""
        try:
            for left in self._folder.glob(f"date=*/.*{files.TEMPORARY}"):
                left.unlink()
        except OSError as error:
            raise SinkError(f"{self._folder} cannot be written: {error}") from error

    def ranges(self) -> list[Range]:
        """List the committed files in the order of their positions.

        Raises SinkError if the folder has a Parquet file with another kind of name, or two files overlap.
        """
        found = []
        for path in self._folder.glob("**/*.parquet"):
            name = NAME.fullmatch(path.name)
            if name is None:
                raise SinkError(
                    f"{path} was not written by this export, but readers of the folder would count it: move it away"
                )
            found.append(Range(int(name[1]), int(name[2]), path))
        found.sort()
        for one, other in pairwise(found):
            if other.first <= one.last:
                raise SinkError(f"{one.path} and {other.path} have the same positions: remove one of them")
        return found

    async def position(self) -> ExportPosition:
        return await asyncio.to_thread(self._position)

    def _position(self) -> ExportPosition:
        ranges = self.ranges()
        if not ranges:
            return START
        try:
            metadata = pq.read_schema(ranges[-1].path).metadata
        except (OSError, pa.ArrowException) as error:
            raise SinkError(
                f"{ranges[-1].path} cannot be read: {error}. Delete it; the export writes it again"
            ) from error
        return ExportPosition(ranges[-1].last, metadata.get(arrow.LAST_FACT_ID, b"").decode())

    async def commit(self, rows: Sequence[Row]) -> None:
        try:
            await asyncio.to_thread(self._commit, rows)
        except OSError as error:
            raise Unavailable(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def _commit(self, rows: Sequence[Row]) -> None:
        new = [row for row in rows if row.position > self._last]
        # One file for each run of rows of one day. With all rows of a day in one file, ranges would overlap.
        for day, run in groupby(new, lambda row: row.day):
            self._write(self._folder / f"date={day.isoformat()}", list(run))

    def _write(self, folder: Path, rows: Sequence[Row]) -> None:
        files.make_folder(folder)
        path = folder / f"{rows[0].position:0{DIGITS}}-{rows[-1].position:0{DIGITS}}.parquet"
        try:
            write_table(arrow.table(self._dataset, rows), files.temporary(path))
            files.publish(path)
        except OSError:
            with contextlib.suppress(OSError):
                files.temporary(path).unlink()  # on a full disk this file would take the space of the next attempt
            raise
        self._last = rows[-1].position

    async def rewind(self, to: ExportPosition) -> None:
        try:
            await asyncio.to_thread(self._rewind, to.position)
        except OSError as error:
            raise Unavailable(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def _rewind(self, position: int) -> None:
        # Newest first, each removal on the disk before the next: if this is cut short, the remaining rows have no gap.
        for committed in reversed(self.ranges()):
            self._last = committed.last
            if committed.last <= position:
                return
            files.remove(committed.path)
        self._last = 0

    async def totals(self, through: ExportPosition) -> Totals:
        return await asyncio.to_thread(self._totals, through.position)

    def _totals(self, through: int) -> Totals:
        totals: Totals = {}
        for committed in self.ranges():
            try:
                self._count(totals, committed.path, through)
            except FileNotFoundError:
                raise Unavailable(
                    f"{committed.path} was removed while it was read: is a backfill (`export --from`) running?"
                ) from None
            except (OSError, pa.ArrowException) as error:
                raise SinkError(
                    f"{committed.path} cannot be read: {error}. Write it again: --from {committed.first}"
                ) from error
        return totals

    def _count(self, totals: Totals, path: Path, through: int) -> None:
        sums = list(self._dataset.sums)
        # The day is taken from `at`, not from the folder that the file is in.
        table = pq.ParquetFile(path).read(["position", "at", "kind", *sums])
        table = table.filter(pc.field("position") <= through)
        table = table.append_column("day", pc.cast(table["at"], pa.date32()))
        grouped = table.group_by(["day", "kind"]).aggregate([("position", "count"), *((name, "sum") for name in sums)])
        for found in grouped.to_pylist():
            numbers = [found["position_count"], *(found[f"{name}_sum"] or 0 for name in sums)]
            add(totals, (found["day"], found["kind"]), numbers)

    async def close(self) -> None:
        """Does nothing: no file is open between commits."""


def write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")
