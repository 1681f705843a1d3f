"""Rows as Parquet files, one folder per day: `date=2026-01-31/<first>-<last>.parquet`, named by log positions.

The names are all there is to know: ranges that never overlap, written in the log's order, so the highest one says
where to go on. A file has its name only when it is whole and on the disk.
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
from infra.export.lock import one_export
from infra.export.rows import START, Dataset, ExportPosition, Row
from infra.export.sink import Limits, SinkError, Unavailable
from infra.export.totals import Totals, add

DIGITS: Final = 16  # of a position in a name, so that names sort as positions do
NAME: Final = re.compile(rf"(\d{{{DIGITS}}})-(\d{{{DIGITS}}})\.parquet")


class Range(NamedTuple):
    """One committed file: the positions of its first and its last row."""

    first: int
    last: int
    path: Path


class FileSink:
    def __init__(self, dataset: Dataset, folder: Path, limits: Limits) -> None:
        self._dataset = dataset
        self._folder = folder
        self.limits = limits
        self._last = 0  # position; known while the lock is held

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        with one_export(self._folder / ".lock", str(self._folder)):
            ranges = self.ranges()  # what others put there is refused before anything of ours is touched
            self._last = ranges[-1].last if ranges else 0
            self._clear()
            yield

    def _clear(self) -> None:
        """Remove what a crash left: it never had a name, and its rows are read again."""
        try:
            for left in self._folder.glob(f"date=*/.*{files.TEMPORARY}"):
                left.unlink()
        except OSError as error:
            raise SinkError(f"{self._folder} cannot be written: {error}") from error

    def ranges(self) -> list[Range]:
        """The committed files in the order of their positions. Raises SinkError."""
        found = []
        for path in self._folder.glob("**/*.parquet"):
            name = NAME.fullmatch(path.name)
            if name is None:
                raise SinkError(f"{path} was not written by this export, and whoever reads the folder would count it")
            found.append(Range(int(name[1]), int(name[2]), path))
        found.sort()
        for one, other in pairwise(found):
            if other.first <= one.last:
                raise SinkError(f"{one.path} and {other.path} have the same positions: remove the one that is too many")
        return found

    async def position(self) -> ExportPosition:
        return await asyncio.to_thread(self._mark)

    def _mark(self) -> ExportPosition:
        ranges = self.ranges()
        if not ranges:
            return START
        try:
            metadata = pq.read_schema(ranges[-1].path).metadata
        except (OSError, pa.ArrowException) as error:
            raise SinkError(f"{ranges[-1].path} cannot be read: {error}. Delete it, and it is written again") from error
        return ExportPosition(ranges[-1].last, metadata.get(arrow.LAST_FACT_ID, b"").decode())

    async def commit(self, rows: Sequence[Row]) -> None:
        try:
            await asyncio.to_thread(self._commit, rows)
        except OSError as error:
            raise Unavailable(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def _commit(self, rows: Sequence[Row]) -> None:
        new = [row for row in rows if row.position > self._last]
        # A file for each run of one day: were a day's rows gathered over others between them, ranges would overlap.
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
                files.temporary(path).unlink()  # on a full disk it takes the room of the next attempt
            raise
        self._last = rows[-1].position

    async def rewind(self, to: ExportPosition) -> None:
        try:
            await asyncio.to_thread(self._rewind, to.position)
        except OSError as error:
            raise Unavailable(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def _rewind(self, position: int) -> None:
        # Newest first, each on the disk before the next: cut short, what is left has no hole.
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
                raise Unavailable(f"{committed.path} went away while it was read: is a backfill running?") from None
            except (OSError, pa.ArrowException) as error:
                raise SinkError(
                    f"{committed.path} cannot be read: {error}. Write it again: --from {committed.first}"
                ) from error
        return totals

    def _count(self, totals: Totals, path: Path, through: int) -> None:
        sums = list(self._dataset.sums)
        # The file alone, not its folder: the day is judged by `at`, whatever folder it stands in.
        table = pq.ParquetFile(path).read(["position", "at", "kind", *sums])
        table = table.filter(pc.field("position") <= through)
        table = table.append_column("day", pc.cast(table["at"], pa.date32()))
        grouped = table.group_by(["day", "kind"]).aggregate([("position", "count"), *((name, "sum") for name in sums)])
        for found in grouped.to_pylist():
            numbers = [found["position_count"], *(found[f"{name}_sum"] or 0 for name in sums)]
            add(totals, (found["day"], found["kind"]), numbers)

    async def close(self) -> None:
        """Nothing is open between commits."""


def write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")
