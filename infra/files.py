"""Files that are there whole or not at all, also after a power cut."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TEMPORARY: Final = ".tmp"
"""How the name of a file ends that is not one yet. With a dot in front, no pattern of a reader matches it."""


def temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}{TEMPORARY}")


def publish(path: Path) -> None:
    """Give the temporary file of `path` its name, once its content is on the disk; returns when the name is, too."""
    sync_file(temporary(path))
    rename(temporary(path), path)
    sync_folder(path.parent)


def write(path: Path, content: bytes) -> None:
    """Put `content` in the place of whatever the file had."""
    temporary(path).write_bytes(content)
    publish(path)


def make_folder(path: Path) -> None:
    """The folder and those above it."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def remove(path: Path) -> None:
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
    """Hold the lock on this file, made if missing. Raises Taken, OSError."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockTaken from None
        yield
