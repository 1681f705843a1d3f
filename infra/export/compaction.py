"""Puts a day's small Parquet files together into few large ones, while others read them.

The new files and links to the day's other files are made in a folder that nobody reads. Then this folder and the day's
folder are swapped in one step. So the listing of a day is the old one or the new one, and a name in both is the same
file. A reader that listed the day before the swap and opens a replaced file after it gets "no such file", never other
rows. The old folder stays whole for a while, so that a listing which began before the swap ends with all its names.

The order of rows and the last fact's id stay, and so does the sink's position. A crash leaves the old or the new day.
"""

import os
import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from infra import files
from infra.export.arrow import SCHEMA
from infra.export.errors import SinkError
from infra.export.parquet import CompactionStopped, Range, file_name, put_together, readable

logger = structlog.get_logger()

KEPT_S: Final = 600.0  # a replaced folder stays; listing a folder takes milliseconds
AGAIN_S: Final = 60.0  # after an error such as a full disk
MOST_FILES: Final = 2_000  # put into one, which keeps a step short

Group = list[Range]
"""Small files of one day, between whose positions no other file is, which fit into one file together."""


class CompactionLimits(NamedTuple):
    """When files are put together, and into how large ones.

    `files`: the newest day, that of the highest positions, is compacted when at least so many of its small files can be
    put together; another day, when two can. 0: no day is compacted. `bytes`: the most bytes on the disk that the files
    put into one file have together. A file is small if it has less than half of `bytes`.
    """

    files: int
    bytes: int


class Compactor:
    """Compacts the days of one dataset, a day at a time; only the process that holds the sink's lock may use it.

    `work`: a folder of the dataset's file system that nobody reads.
    """

    def __init__(self, work: Path, limits: CompactionLimits) -> None:
        self._work = work
        self._limits = limits
        self._is_on = limits.files > 0
        self._round: deque[tuple[Path, list[Group]]] = deque()
        self._failures: Counter[Path] = Counter()
        self._new_files = 0
        self._last_day: Path | None = None
        self._is_due = True
        self._again_at: float | None = None
        """When a round that an error of the file system has ended is begun again, by the clock `monotonic`."""

    def added(self, folder: Path) -> None:
        """Note a new file in this day's folder, after which a round may be due.

        One is due after `limits.files` new files since the last began, or if the file before was of another day.
        """
        self._new_files += 1
        if self._new_files >= self._limits.files or folder != self._last_day:
            self._is_due = True
        self._last_day = folder

    def step(self, committed: Callable[[], Sequence[Range]], stopped: Callable[[], bool]) -> bool:
        """Compact one day, if one is due; return whether another call may find more to do.

        `committed` lists all files in order. Errors are logged, not raised. A day with a damaged file is tried again
        in the next round: new files, or another day that was compacted, begin one. AGAIN_S after an OSError a round
        begins. Where folders cannot be swapped, nothing is compacted any more. The day stays as it is if `stopped`
        returns True before its last file is read.
        """
        if self._again_at is not None and monotonic() >= self._again_at:
            self._is_due, self._again_at = True, None
        if not self._is_on or not (self._is_due or self._round):
            return False
        folder = None
        try:
            if not self._round:
                self._is_due = False
                self._new_files = 0
                clear(self._work)
                days = due(committed(), self._limits)
                self._round.extend(sorted(days.items(), key=lambda day: self._failures[day[0]]))  # failed ones last
            if not self._round:
                return False
            folder, groups = self._round.popleft()
            groups = [alike for group in groups for alike in _of_one_schema(group)]
            if groups:
                compact(folder, groups, self._work, stopped)
                self._is_due = True  # what is made may be small itself
                logger.debug("compacted", folder=str(folder), files=sum(map(len, groups)), into=len(groups))
        except CompactionStopped:
            return False
        except files.ExchangeUnsupported as error:
            self._is_on = False
            logger.warning(
                "this file system cannot swap two folders in one step, so small files stay as they are: "
                "put EXPORT_DIR on another one, or set EXPORT_COMPACT_FILES=0",
                reason=str(error),
            )
            return False
        except (SinkError, pa.ArrowException) as error:  # a file of this day is damaged, or somebody else's
            self._failed(folder, error)
            return folder is not None
        except OSError as error:  # such as a full disk, which other days would meet, too
            self._round.clear()
            self._again_at = monotonic() + AGAIN_S
            self._failed(folder, error)
            return False
        return True

    def _failed(self, folder: Path | None, error: Exception) -> None:
        if folder is not None:
            self._failures[folder] += 1
        logger.warning(
            "small files could not be compacted; they stay, and are tried again later",
            folder=str(folder or self._work),
            reason=str(error),
        )


def due(ranges: Sequence[Range], limits: CompactionLimits) -> dict[Path, list[Group]]:
    """Return the groups to put together, by the folder of each day that is due. `ranges`: all files, in order.

    A day is due with two small files that can be put together; the day of the file with the highest positions, with
    `limits.files` such files. Raises OSError.
    """
    found: dict[Path, list[Group]] = {}
    for folder, run in groupby(ranges, lambda each: each.path.parent):
        found.setdefault(folder, []).extend(_groups(run, limits.bytes))
    return {
        folder: groups
        for folder, groups in found.items()
        if groups and (folder != ranges[-1].path.parent or sum(map(len, groups)) >= limits.files)
    }


def _groups(run: Iterable[Range], most_bytes: int) -> Iterator[Group]:
    """Yield groups of 2 to MOST_FILES small files, neighbours in `run`, which have at most `most_bytes` together.

    `run`: files of one day in order, with none of another day between them. Small: less than half of `most_bytes`.
    """
    group: Group = []
    total = 0
    for each in run:
        size = each.path.stat().st_size
        small = size * 2 < most_bytes
        if group and (not small or total + size > most_bytes or len(group) == MOST_FILES):
            yield from [group] if len(group) > 1 else []
            group, total = [], 0
        if small:
            group.append(each)
            total += size
    yield from [group] if len(group) > 1 else []


def _of_one_schema(group: Group) -> Iterator[Group]:
    """Cut the group where the schema changes, and yield the parts of at least two files.

    Raises SinkError if a file cannot be read; FileNotFoundError if one is gone.
    """
    for _, alike in groupby(group, lambda each: readable(each, _schema)):
        if len(same := list(alike)) > 1:
            yield same


def _schema(path: Path) -> tuple[pa.Schema, bytes | None]:
    found = pq.read_schema(path)
    return found.remove_metadata(), (found.metadata or {}).get(SCHEMA)


def compact(folder: Path, groups: Sequence[Group], work: Path, stopped: Callable[[], bool]) -> None:
    """Replace the files of each group, of one schema, in this day's folder by one file, durably and in one step.

    `work`: a folder of the same file system that nobody reads. Raises CompactionStopped, SinkError, OSError: then the
    day is as it was, or, if a sync after the swap failed, compacted.
    """
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=work))
    try:
        _fill(made, folder, groups, stopped)
        files.exchange(made, folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    files.sync_folder(folder.parent)
    files.sync_folder(work)
    os.utime(made)  # the replaced folder is kept from now on


def _fill(made: Path, folder: Path, groups: Sequence[Group], stopped: Callable[[], bool]) -> None:
    shutil.copystat(folder, made)
    for group in groups:
        path = made / file_name(group[0].first, group[-1].last)
        put_together(group, path, stopped)
        shutil.copymode(group[-1].path, path)
        files.sync_file(path)
    replaced = {each.path for group in groups for each in group}
    for path in folder.iterdir():
        if path not in replaced:
            (made / path.name).hardlink_to(path)
    files.sync_folder(made)
    files.sync_folder(made.parent)


def clear(work: Path) -> None:
    """Remove the folders in `work`, replaced or unfinished ones, that have not changed for KEPT_S. Raises OSError."""
    for folder in work.iterdir():
        if folder.is_dir() and time.time() - folder.stat().st_ctime >= KEPT_S:
            shutil.rmtree(folder)
