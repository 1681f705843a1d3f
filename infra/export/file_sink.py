"""Writes rows as Parquet files, one folder per day: the sink for EXPORT_SINK=file.

The files are the only state. The ranges of their names never overlap and are written in the log's order, so the export
continues after the highest one. A file gets its name when it is whole and on the disk. Nothing but these files is put
into the folder that others read: what is unfinished, and the lock, are beside it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra import files
from infra.aio import in_thread
from infra.export import arrow
from infra.export.compaction import CompactionLimits, Compactor, clear
from infra.export.errors import SinkError, Unavailable
from infra.export.lock import one_export
from infra.export.parquet import Result, committed, file_name, readable, write_table
from infra.export.rows import START, Dataset, ExportPosition, Row
from infra.export.sink import Limits
from infra.export.totals import Key, Totals, add

ATTEMPTS: Final = 5  # to read files that compaction or a backfill may remove after they were listed


class FileSink:
    """Writes a dataset's rows as Parquet files below `folder`, and puts nothing else there.

    A Parquet file below `folder` with another kind of name makes `lock`, `position`, `rewind` and `totals` raise
    SinkError: another program wrote it. `compaction`: when and how small files are put together.
    Beside the folder, or what it is a link to, are a lock and a folder for what is unfinished or replaced.
    """

    def __init__(self, dataset: Dataset, folder: Path, limits: Limits, compaction: CompactionLimits) -> None:
        self._dataset = dataset
        self._folder = folder
        self.limits = limits
        self._work = _beside(folder, f".{folder.name}.work")
        self._compactor = Compactor(self._work, compaction)
        self._last = 0  # position; known while the lock is held

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        with (
            one_export(_beside(self._folder, f"{self._folder.name}.lock"), str(self._folder)),
            self._lock_of_before(),
        ):
            self._last = self._last_committed()  # refuses files of others before anything is changed
            self._prepare()
            yield

    @contextlib.contextmanager
    def _lock_of_before(self) -> Iterator[None]:
        """Hold the lock of earlier versions, if there is one, and remove it: it is in the folder that others read."""
        old = self._folder / ".lock"
        if not old.exists():
            yield
            return
        with one_export(old, str(self._folder)):
            old.unlink()
            yield

    def _last_committed(self) -> int:
        """Return the last position in the files; 0 without any. Raises SinkError."""
        try:
            ranges = committed(self._folder)
        except OSError as error:
            raise SinkError(f"{self._folder} cannot be read: {error}") from error
        return ranges[-1].last if ranges else 0

    def _prepare(self) -> None:
        """Make the folders, and remove the unfinished files of a crash: their rows are read again.

        Also removes old folders of compaction (`clear`). Raises SinkError if a folder cannot be written, or both are
        not on one file system.
        """
        try:
            files.make_folder(self._folder)
            files.make_folder(self._work)
            other = self._work.stat().st_dev != self._folder.stat().st_dev
            earlier = self._folder.glob(f"date=*/.*{files.TEMPORARY}")  # where earlier versions had them
            for left in (*self._work.glob(f".*{files.TEMPORARY}"), *earlier):
                left.unlink()
            clear(self._work)
        except OSError as error:
            raise SinkError(f"{self._folder} cannot be written: {error}") from error
        if other:
            raise SinkError(
                f"{self._folder} is not on the file system of {self._work.parent}, so no file could be moved into it "
                "in one step: mount the file system there instead, or set EXPORT_DIR to a folder on it"
            )

    async def position(self) -> ExportPosition:
        return await asyncio.to_thread(self._again, self._position)

    def _again(self, read: Callable[[], Result]) -> Result:
        """Return what `read` returns; call it again if a file was removed after `read` listed it.

        Raises Unavailable after ATTEMPTS calls, or if `read` raises another OSError; SinkError, Unavailable as `read`.
        """
        for _ in range(ATTEMPTS):
            try:
                return read()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Unavailable(f"{self._folder} cannot be read: {error}") from error
        raise Unavailable(f"files in {self._folder} are removed while they are read: is a backfill running?")

    def _position(self) -> ExportPosition:
        ranges = committed(self._folder)
        if not ranges:
            return START
        advice = "Delete it; the export writes it again"
        return ExportPosition(ranges[-1].last, readable(ranges[-1], _last_fact_id, advice))

    async def commit(self, rows: Sequence[Row]) -> None:
        try:
            await in_thread(lambda: self._commit(rows))
        except OSError as error:
            raise Unavailable(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def _commit(self, rows: Sequence[Row]) -> None:
        new = [row for row in rows if row.position > self._last]
        # One file for each run of rows of one day. With all rows of a day in one file, ranges would overlap.
        for day, run in groupby(new, lambda row: row.day):
            self._write(self._folder / f"date={day.isoformat()}", list(run))

    def _write(self, folder: Path, rows: Sequence[Row]) -> None:
        files.make_folder(folder)
        name = file_name(rows[0].position, rows[-1].position)
        unfinished = files.temporary(self._work / name)
        try:
            write_table(arrow.table(self._dataset, rows), unfinished)
            files.publish(folder / name, unfinished)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()  # on a full disk this file would take the space of the next attempt
            raise
        self._last = rows[-1].position
        self._compactor.added(folder)

    async def compact(self, stopped: Callable[[], bool]) -> bool:
        return await in_thread(lambda: self._compactor.step(lambda: committed(self._folder), stopped))

    async def rewind(self, to: ExportPosition) -> None:
        try:
            await in_thread(lambda: self._rewind(to.position))
        except OSError as error:
            raise Unavailable(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def _rewind(self, position: int) -> None:
        # Newest first, each removal on the disk before the next: if this is cut short, the remaining rows have no gap.
        for each in reversed(committed(self._folder)):
            self._last = each.last
            if each.last <= position:
                return
            files.remove(each.path)
        self._last = 0

    async def totals(self, through: ExportPosition) -> Totals:
        return await asyncio.to_thread(self._again, lambda: self._totals(through.position))

    def _totals(self, through: int) -> Totals:
        totals: Totals = {}
        ranges = committed(self._folder)
        if through > (ranges[-1].last if ranges else 0):
            raise Unavailable(f"rows were removed from {self._folder}: a backfill is running; compare when it is done")
        for each in ranges:
            for key, numbers in readable(each, lambda path: list(self._counted(path, through))):
                add(totals, key, numbers)
        return totals

    def _counted(self, path: Path, through: int) -> Iterator[tuple[Key, list[int]]]:
        sums = list(self._dataset.sums)
        # The day is taken from `at`, not from the folder that the file is in.
        with pq.ParquetFile(path) as file:
            table = file.read(["position", "at", "kind", *sums])
        table = table.filter(pc.field("position") <= through)
        table = table.append_column("day", pc.cast(table["at"], pa.date32()))
        grouped = table.group_by(["day", "kind"]).aggregate([("position", "count"), *((name, "sum") for name in sums)])
        for found in grouped.to_pylist():
            yield (
                (found["day"], found["kind"]),
                [found["position_count"], *(found[f"{name}_sum"] or 0 for name in sums)],
            )

    async def close(self) -> None:
        """Does nothing: no file is open between commits."""


def _last_fact_id(path: Path) -> str:
    """Read the id of the file's last fact. Raises ValueError without one; OSError, pa.ArrowException."""
    found = (pq.read_schema(path).metadata or {}).get(arrow.LAST_FACT_ID)
    if found is None:
        raise ValueError("this export did not write it: it has no id of its last fact")
    return str(found, encoding="utf-8")


def _beside(folder: Path, name: str) -> Path:
    """Return the path `name` beside the folder, or beside what the folder is a link to."""
    return folder.resolve().with_name(name)
