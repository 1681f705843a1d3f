"""The memory on the disk remembers what a dictionary would, with two entries at hand; only what is kept is left."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from ops.audit import disk_memory
from tests.domain.test_any_order import REPEATABLE

KEYS = st.sampled_from("abcdefgh")


class Thing(Struct):
    count: int


@settings(REPEATABLE, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["set", "change", "get", "remove", "count"]), KEYS)))
def test_a_table_is_like_a_dictionary(tmp_path: Path, steps: list[tuple[str, str]]) -> None:
    expected: dict[str, int] = {}
    with disk_memory.working_copy(tmp_path / "memory", of=False, generation=2) as memory:
        table = memory.many("things", Thing)
        for number, (step, key) in enumerate(steps):
            if step == "set":
                table[key] = Thing(number)
                expected[key] = number
            elif step == "change" and key in expected:
                found = table.get(key)
                assert found is not None
                found.count = expected[key] = number
            elif step == "remove":
                table.remove(key)
                expected.pop(key, None)
            elif step == "count":
                assert len(table) == len(expected)
            else:
                found = table.get(key)
                assert (None if found is None else found.count) == expected.get(key)
        assert {key: thing.count for key, thing in table.items()} == expected


def test_what_is_kept_is_there_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    with disk_memory.working_copy(path, of=False, generation=2) as memory:
        memory.many("things", Thing)["a"] = Thing(1)
        memory.few("open", int)["b"] = 2
        disk_memory.keep(memory, path)

    with disk_memory.working_copy(path, of=True, generation=2) as memory:
        assert memory.many("things", Thing).get("a") == Thing(1)
        assert memory.few("open", int) == {"b": 2}


def no_database(path: Path) -> None:
    path.write_bytes(b"garbage" * 1_000)


def torn(path: Path) -> None:
    """The last pages are as they were before: here empty."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


def other_values(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE things SET value = x'c1'")


@pytest.mark.parametrize("damage", [no_database, torn, other_values])
def test_a_damaged_file_is_told_and_stays_as_it_is(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "memory"
    with disk_memory.working_copy(path, of=False, generation=2) as memory:
        table = memory.many("things", Thing)
        for n in range(5_000):
            table[str(n)] = Thing(n)
        disk_memory.keep(memory, path)
    damage(path)
    before = path.read_bytes()

    def read() -> int:
        with disk_memory.working_copy(path, of=True, generation=2) as memory:
            return sum(thing.count for thing in memory.many("things", Thing).values())

    with pytest.raises(disk_memory.DamagedMemory, match=rf"{path} is damaged \(.+\)"):
        read()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_that_does_not_come_from_the_file_passes(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    with disk_memory.working_copy(path, of=False) as memory:
        disk_memory.keep(memory, path)

    def fill() -> None:
        with disk_memory.working_copy(path, of=True) as memory:
            memory._connection.execute("PRAGMA max_page_count = 1")
            memory.few("open", str)["a"] = "b" * 100_000
            memory.write()

    with pytest.raises(sqlite3.OperationalError, match="full"):
        fill()


def test_what_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    with disk_memory.working_copy(path, of=False, generation=2) as memory:
        memory.many("things", Thing)["a"] = Thing(1)
        disk_memory.keep(memory, path)
    before = path.read_bytes()

    with disk_memory.working_copy(path, of=True, generation=2) as memory:
        memory.many("things", Thing)["a"] = Thing(2)
        memory.write()

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
