"""A checker's memory that stays small: entries not used lately are in a SQLite file, from which the next audit begins.

The file is a working copy until `keep` renames it. An audit that does not end with the verdict `good` leaves the
earlier file as it was.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec

from infra import files
from infra.store.errors import is_damage
from ops.invariants.memory import Memory

GENERATION: Final = 10_000  # entries of a generation; of each table two generations are in memory
CACHE_KIB: Final = 32_768  # of SQLite's pages

V = TypeVar("V")


class DamagedMemory(Exception):
    """The file of a memory is damaged; the text says which file, and why."""


def _stored(value: object) -> bytes:
    """Return the value of a row. Raises msgspec.DecodeError if it is not bytes: a torn page may look like NULLs."""
    if not isinstance(value, bytes):
        raise msgspec.DecodeError(f"a row has {value!r} for its value")
    return value


class DiskTable(Generic[V]):
    """A table of a SQLite file. The entries used last are in memory, in two generations: the young and the old.

    An entry that is set or read becomes young. When more than `generation` are young, the old ones are written to the
    file, and the young ones become the old. So a value that `get` returned may be changed in place until `generation`
    other entries were set or read; the change is kept. Values of `items` and `values` are copies.
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
            value = self._decode(_stored(row[0]))
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
            yield key, self._decode(_stored(value))

    def values(self) -> Iterator[V]:
        return (value for _, value in self.items())

    def write(self) -> None:
        """Write the entries that are in memory to the file, without a commit. They stay in memory, too."""
        self._write({**self._old, **self._young})

    def _write(self, values: dict[str, V]) -> None:
        self._has_rows = self._has_rows or bool(values)
        rows = [(key, self._encode(values[key])) for key in sorted(values)]  # neighbours share pages
        self._connection.executemany(f"INSERT OR REPLACE INTO {self._name} VALUES (?, ?)", rows)


class DiskMemory(Memory):
    """A checker's memory in a SQLite file. Of each table of `many`, about two times `generation` entries are in memory.

    The dictionaries of `few` are in memory whole. Call `many` once for each name; `few` returns the same dictionary
    again.
    """

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
        values: dict[str, V] = {} if row is None else msgspec.msgpack.decode(_stored(row[0]), type=dict[str, of])  # type: ignore[valid-type]
        self._few[name] = values
        return values

    def write(self) -> None:
        """Write all tables and dictionaries to the file and commit. The file is not synced to the disk."""
        for table in self._many:
            table.write()
        rows = [(name, msgspec.msgpack.encode(values)) for name, values in self._few.items()]
        self._connection.executemany("INSERT OR REPLACE INTO few VALUES (?, ?)", rows)
        self._connection.commit()


@contextlib.contextmanager
def working_copy(path: Path, *, of: bool, generation: int = GENERATION) -> Iterator[DiskMemory]:
    """Yield a memory in a temporary file beside `path`. It begins as a copy of the file at `path` if `of`, else empty.

    At the end of the block the file is removed, unless `keep` has renamed it. Only one copy of a path may be in use at
    a time. Raises OSError, sqlite3.Error. If an error in the block shows that the copied file is damaged,
    DamagedMemory is raised in its place.
    """
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
    except (sqlite3.Error, msgspec.DecodeError) as error:
        if of and is_damage(error):
            raise DamagedMemory(f"{path} is damaged ({error})") from error
        raise
    finally:
        connection.close()
        copy.unlink(missing_ok=True)


def keep(memory: DiskMemory, path: Path) -> None:
    """Write the memory and replace the file at `path` by it, durably.

    `memory` must be the working copy of the same `path`, whose block has not ended. Raises OSError, sqlite3.Error.
    """
    memory.write()
    files.publish(path)
