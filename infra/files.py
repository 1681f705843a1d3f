"""Writes files whole or not at all, also across a power cut; swaps folders; locks a file.

Failures are OSErrors, except LockTaken for a lock that is held.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TEMPORARY: Final = ".tmp"
"""The suffix of an unfinished file. `temporary` also puts a dot first, so that readers' patterns do not match it."""


PRIVATE: Final = 0o600
"""The mode of a file that only its owner may read and write."""

PRIVATE_FOLDER: Final = 0o700

PRIVATE_UMASK: Final = 0o077
"""The umask of a process whose new files and folders are for their owner alone."""

AT_FDCWD: Final = -100
RENAME_EXCHANGE: Final = 2  # Linux: renameat2
RENAME_SWAP: Final = 2  # macOS: renamex_np
NOT_ABLE: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP})


def temporary(path: Path) -> Path:
    """The path in the same folder to which the caller writes new content before `publish(path)`. Makes no file."""
    return path.with_name(f".{path.name}{TEMPORARY}")


def publish(path: Path, unfinished: Path | None = None) -> None:
    """Sync the file `unfinished`, rename it to `path` in place of an older file, and sync the rename.

    `unfinished` must be on the same file system; by default it is `temporary(path)`.
    """
    unfinished = unfinished or temporary(path)
    sync_file(unfinished)
    rename(unfinished, path)
    sync_folder(path.parent)


def write(path: Path, content: bytes) -> None:
    """Put a file with this content at the path, durably; a power cut leaves the older file, if any, or the new one."""
    temporary(path).write_bytes(content)
    publish(path)


def make_folder(path: Path) -> None:
    """Make the folder and its parents if they are missing, durably, for their owner alone (mode 0700)."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        sync_folder(path.parent)


def make_private_folder(path: Path) -> None:
    """Make the folder and its parents if they are missing, durably, and keep all but its owner out of the folder.

    If `path` exists and others may use it, it gets the mode 0700; existing parents stay as they are. If the current
    folder is `path` or below it, `path` stays as it is, too: it holds more than data. Raises OSError if a folder cannot
    be made or changed.
    """
    make_folder(path)
    here = Path.cwd()
    if path.stat().st_mode & 0o077 and path.resolve() not in (here, *here.parents):
        path.chmod(PRIVATE_FOLDER)


def remove(path: Path) -> None:
    """Remove the file, durably. Raises FileNotFoundError if there is none."""
    path.unlink()
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def rename(old: Path, new: Path) -> None:
    old.replace(new)


class ExchangeUnsupported(OSError):
    """The operating system, or the file system of these folders, cannot swap two folders in one step."""


def exchange(one: Path, other: Path) -> None:
    """Swap two folders of one file system in a single step: each name is there at every moment.

    Does not sync. Raises ExchangeUnsupported or another OSError if it fails; nothing has changed then.
    """
    names = os.fsencode(one), os.fsencode(other)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if sys.platform == "darwin":
            failed = libc.renamex_np(*names, RENAME_SWAP)
        else:
            failed = libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)
    except AttributeError:  # a C library without the function
        raise ExchangeUnsupported(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if failed:
        code = ctypes.get_errno()
        kind = ExchangeUnsupported if code in NOT_ABLE else OSError
        raise kind(code, os.strerror(code), str(one), None, str(other))


def sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


LOOKS: Final = 1_000
"""How often a process that takes a lock waits LOOK_S for those who only look at it, at most."""
LOOK_S: Final = 0.001


class LockTaken(Exception):
    """The lock is held already, usually by another process. The text names that process, by its id if that is known."""


def take_lock(path: Path) -> int:
    """Lock this file, made if missing, write this process's id into it, and return its open descriptor.

    The lock is held until the last copy of the descriptor is closed: a child process that inherits one holds the lock,
    too. Raises LockTaken, without waiting, if the lock is held already; OSError if the file cannot be used.

    A process that only looks (`lock_holder`) does not hold the lock: `take_lock` waits for the end of the look. It
    raises LockTaken, too, if the looks go on after LOOKS pauses of LOOK_S seconds.
    """
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE)
        try:
            _lock(lock)
            if _is_at(path, lock):
                name_holder(lock, os.getpid())
                return lock
        except BlockingIOError:
            holder = _holder(lock)
            os.close(lock)
            raise LockTaken(holder) from None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # its last holder removed the file before this process locked it


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file still has this path: another process may have removed it, or made a new one there."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(lock: int) -> None:
    """Take the exclusive lock of this descriptor once nobody looks at it. Raises BlockingIOError if it is held.

    Also raises that if processes still look at it after LOOKS pauses of LOOK_S seconds.
    """
    for _ in range(LOOKS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # fails beside an exclusive lock, not beside a look's
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(LOOK_S)
    raise BlockingIOError


def lock_holder(path: Path) -> str | None:
    """Return who holds the lock of this file, such as `process 17`; None if nobody does. Changes no file.

    Looking takes a shared lock for an instant, which `take_lock` waits for. Raises OSError if the file is missing or
    cannot be opened.
    """
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(lock)
    finally:
        os.close(lock)
    return None


def _holder(lock: int) -> str:
    holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
    return f"process {holder}" if holder.isdecimal() else "another process"


def name_holder(lock: int, pid: int) -> None:
    """Write `pid`, the id of the process that holds the lock, into the locked file with the descriptor `lock`."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{pid}\n".encode(), 0)


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the only lock on this file until the context ends. The file is made if missing, and stays.

    Raises LockTaken and OSError as `take_lock` does.
    """
    lock = take_lock(path)
    try:
        yield
    finally:
        os.close(lock)
