"""What the tests of the export share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.export.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to the disk, as it is done."""
    seen: list[str] = []
    fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def see_fsync(descriptor: int) -> None:
        fsync(descriptor)
        seen.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")

    def see_replace(old: Path, new: Path) -> Path:
        seen.append(f"{old.name} becomes {new.name}")
        return replace(old, new)

    def see_unlink(path: Path, missing_ok: bool = False) -> None:
        seen.append(f"remove {path.name}")
        unlink(path, missing_ok)

    monkeypatch.setattr(os, "fsync", see_fsync)
    monkeypatch.setattr(Path, "replace", see_replace)
    monkeypatch.setattr(Path, "unlink", see_unlink)
    return seen
