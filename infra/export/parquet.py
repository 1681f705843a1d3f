"""A dataset's Parquet files: how they are named, listed, written, and put together.

One folder per day: `date=2026-01-31/<first>-<last>.parquet`, named by the log positions of the first and the last row.
A file is never changed in place. Compaction or a backfill may remove it; a backfill may then write another one of the
same name, whose rows may differ.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from infra.export.errors import SinkError

DIGITS: Final = 16  # of a position in a name, so that names sort as positions do
NAME: Final = re.compile(rf"(\d{{{DIGITS}}})-(\d{{{DIGITS}}})\.parquet")
COMPRESSION: Final = "zstd"
ROW_GROUP: Final = 65_536  # rows that are in memory at once while files are put together; a file of readers' usual size


Result = TypeVar("Result")


class Range(NamedTuple):
    """One committed file, at `path`, and the log positions of its first and its last row."""

    first: int
    last: int
    path: Path


class CompactionStopped(Exception):
    """The process was asked to end before the files were put together. Nothing was replaced."""


def file_name(first: int, last: int) -> str:
    return f"{first:0{DIGITS}}-{last:0{DIGITS}}.parquet"


def committed(folder: Path) -> list[Range]:
    """List the committed files below `folder` in the order of their positions.

    A missing folder has none. Raises SinkError if a Parquet file has another kind of name, or if two files overlap;
    OSError if a folder cannot be read.
    """
    found = []
    for path in _parquet_files(folder):
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


def _parquet_files(folder: Path) -> Iterator[Path]:
    """Yield all that readers of the folder would count. `Path.glob` would pass over a folder that it may not read."""
    for where, folders, files in os.walk(folder, onerror=_raise_unless_gone):
        yield from (Path(where, name) for name in [*folders, *files] if name.endswith(".parquet"))


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def readable(each: Range, read: Callable[[Path], Result], advice: str = "") -> Result:
    """Return what `read` makes of the file, which another program may have written.

    Raises FileNotFoundError if it is gone; SinkError if `read` raises OSError, pa.ArrowException, ValueError or
    LookupError. The SinkError's message ends with `advice`; empty: with the advice to write the file again.
    """
    try:
        return read(each.path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, LookupError, pa.ArrowException) as error:
        raise SinkError(
            f"{each.path} cannot be read: {error}. {advice or f'Write it again: --from {each.first}'}"
        ) from error


def write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression=COMPRESSION)


def put_together(ranges: Sequence[Range], path: Path, stopped: Callable[[], bool]) -> None:
    """Write the rows of these files, of one schema and in this order, as the file `path`, with the last one's metadata.

    Does not sync `path` to the disk. Raises CompactionStopped if `stopped` returns True before a file is read;
    SinkError if one of them cannot be read; OSError.
    """
    schema = readable(ranges[-1], pq.read_schema)
    tables: list[pa.Table] = []
    with pq.ParquetWriter(path, schema, compression=COMPRESSION) as writer:
        for each in ranges:
            if stopped():
                raise CompactionStopped
            tables.append(readable(each, _read).replace_schema_metadata(schema.metadata))
            if sum(table.num_rows for table in tables) >= ROW_GROUP:
                writer.write_table(pa.concat_tables(tables))
                tables = []
        if tables:
            writer.write_table(pa.concat_tables(tables))


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read()
