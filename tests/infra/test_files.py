"""A lock is taken by one process at a time, and a process that only looks at it takes it from nobody."""

import fcntl
import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from infra import files


class Look:
    """The lock of one who looks: it ends at the first pause of one who takes the lock."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._lock = os.open(path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        self.pauses = 0

    def pause(self, _: float) -> None:
        self.pauses += 1
        if self.pauses == 1:
            self.close()

    def close(self) -> None:
        os.close(self._lock)


def test_a_look_at_a_lock_refuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Look(tmp_path / "lock")
    monkeypatch.setattr(time, "sleep", look.pause)

    lock = files.take_lock(tmp_path / "lock")

    assert look.pauses == 1
    assert files.lock_holder(tmp_path / "lock") == f"process {os.getpid()}"
    os.close(lock)
    assert files.lock_holder(tmp_path / "lock") is None


def test_a_lock_that_is_held_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: float) -> None:
        raise AssertionError("it waited")

    monkeypatch.setattr(time, "sleep", never)
    with (
        files.exclusive_lock(tmp_path / "lock"),
        pytest.raises(files.LockTaken, match=f"process {os.getpid()}"),
    ):
        files.take_lock(tmp_path / "lock")


def test_looks_without_an_end_are_told_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Look(tmp_path / "lock")):
        monkeypatch.setattr(time, "sleep", lambda _: None)

        with pytest.raises(files.LockTaken):
            files.take_lock(tmp_path / "lock")


def test_a_lock_is_on_the_file_that_has_the_name_not_on_one_that_was_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".lock"
    flock = fcntl.flock
    removed: list[int] = []

    def remove_first(lock: int, how: int) -> None:
        if not removed:
            removed.append(lock)
            path.unlink()
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with files.exclusive_lock(path), pytest.raises(files.LockTaken, match="process"):
        files.take_lock(path)
