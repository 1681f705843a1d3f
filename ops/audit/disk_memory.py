"""A checker's memory that stays small: entries not used lately are in a SQLite file, from which the next audit begins.

The file is a working copy until `keep` renames it: an audit that did not end, or that found something, leaves nothing.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec

from infra import files
from ops.invariants.memory import Memory

GENERATION: Final = 10_000  # entries of a generation; of each table two generations are in memory
CACHE_KIB: Final = 32_768  # of SQLite's pages

V = TypeVar("V")


class DiskTable(Generic[V]):
    """A table with two generations in memory. A value that is read becomes young; when the young are many, the old are
    written.

    So a value that `get` returned may be changed until `generation` other values were read.
    """

    def __init__(self, connection: sqlite3.Connection, name: str, of: type[V], generation: int) -> None:
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
        self._connection = connection
        self._name = name
        self._generation = generation
        self._select = f"SELECT value FROM {name} WHERE key = ?"
        self._has_rows = connection.execute(f"SELECT 1 FROM {name}").fetchone() is not None
        self._young: dict[str, V] = {}
        self._old: dict[str, V] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(of).decode

    def get(self, key: str, /) -> V | None:
        value = self._young.get(key)
        if value is not None:
            return value
        value = self._old.pop(key, None)
        if value is None:
            if not self._has_rows:
                return None
            row = self._connection.execute(self._select, (key,)).fetchone()
            if row is None:
                return None
            value = self._decode(row[0])
        self[key] = value
        return value

    def __setitem__(self, key: str, value: V, /) -> None:
        self._young[key] = value
        if len(self._young) > self._generation:
            self._write(self._old)
            self._young, self._old = {}, self._young

    def remove(self, key: str, /) -> None:
        self._young.pop(key, None)
        self._old.pop(key, None)
        if self._has_rows:
            self._connection.execute(f"DELETE FROM {self._name} WHERE key = ?", (key,))

    def __len__(self) -> int:
        self.write()
        ((count,),) = self._connection.execute(f"SELECT count(*) FROM {self._name}")
        return int(count)

    def items(self) -> Iterator[tuple[str, V]]:
        self.write()
        for key, value in self._connection.execute(f"SELECT key, value FROM {self._name}"):
            yield key, self._decode(value)

    def values(self) -> Iterator[V]:
        return (value for _, value in self.items())

    def write(self) -> None:
        """Write the entries that are in memory to the file."""
        self._write({**self._old, **self._young})

    def _write(self, values: dict[str, V]) -> None:
        self._has_rows = self._has_rows or bool(values)
        rows = [(key, self._encode(values[key])) for key in sorted(values)]  # neighbours share pages
        self._connection.executemany(f"INSERT OR REPLACE INTO {self._name} VALUES (?, ?)", rows)


class DiskMemory(Memory):
    """A checker's memory in a file. Of each table, up to two times `generation` entries are in memory."""

    def __init__(self, connection: sqlite3.Connection, generation: int = GENERATION) -> None:
        self._generation = generation
        self._connection = connection
        self._many: list[DiskTable[Any]] = []
        self._few: dict[str, dict[str, Any]] = {}
        connection.execute("CREATE TABLE IF NOT EXISTS few (name TEXT PRIMARY KEY, value BLOB)")

    def many(self, name: str, of: type[V]) -> DiskTable[V]:
        table = DiskTable(self._connection, name, of, self._generation)
        self._many.append(table)
        return table

    def few(self, name: str, of: type[V]) -> dict[str, V]:
        if name in self._few:
            return self._few[name]
        row = self._connection.execute("SELECT value FROM few WHERE name = ?", (name,)).fetchone()
        values: dict[str, V] = {} if row is None else msgspec.msgpack.decode(row[0], type=dict[str, of])  # type: ignore[valid-type]
        self._few[name] = values
        return values

    def write(self) -> None:
        """Write everything."""
        for table in self._many:
            table.write()
        rows = [(name, msgspec.msgpack.encode(values)) for name, values in self._few.items()]
        self._connection.executemany("INSERT OR REPLACE INTO few VALUES (?, ?)", rows)
        self._connection.commit()


@contextlib.contextmanager
def working_copy(path: Path, *, of: bool, generation: int = GENERATION) -> Iterator[DiskMemory]:
    """A memory in a file beside `path`: a copy of `path` (`of`), or empty. It is removed unless `keep` renames it."""
    copy = files.temporary(path)
    copy.unlink(missing_ok=True)
    if of:
        shutil.copyfile(path, copy)
    # `keep` commits the working copy. It is never rolled back: without `keep` the file is removed instead.
    connection = sqlite3.connect(copy)
    try:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}")
        yield DiskMemory(connection, generation)
    finally:
        connection.close()
        copy.unlink(missing_ok=True)


def keep(memory: DiskMemory, path: Path) -> None:
    """Replace the file at `path` by the working copy."""
    memory.write()
    files.publish(path)
