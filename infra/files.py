"""Files that are written whole or not at all, also across a power cut; and a lock on a file."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TEMPORARY: Final = ".tmp"
"""The suffix of an unfinished file. The name begins with a dot, so readers' patterns do not match it."""


def temporary(path: Path) -> Path:
    """The file that takes the content of `path` until it is published."""
    return path.with_name(f".{path.name}{TEMPORARY}")


def publish(path: Path) -> None:
    """Sync the temporary file of `path`, rename it to `path`, and sync the rename."""
    sync_file(temporary(path))
    rename(temporary(path), path)
    sync_folder(path.parent)


def write(path: Path, content: bytes) -> None:
    """Replace the file's content, durably."""
    temporary(path).write_bytes(content)
    publish(path)


def make_folder(path: Path) -> None:
    """Make the folder and its parents, durably."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove the file, durably."""
    path.unlink()
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def rename(old: Path, new: Path) -> None:
    old.replace(new)


def sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class LockTaken(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock on this file, made if missing and emptied. Raises LockTaken at once if it is held; OSError."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockTaken from None
        yield
