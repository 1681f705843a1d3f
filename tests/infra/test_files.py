"""Locks on files, also on those that their last holder removes."""

import fcntl
from pathlib import Path

import pytest

from infra.files import LockTaken, exclusive_lock, take_lock


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
    with exclusive_lock(path), pytest.raises(LockTaken, match="process"):
        take_lock(path)
