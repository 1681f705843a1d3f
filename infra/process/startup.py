"""What a service takes for itself before it starts: its port and its folder."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from infra.files import LockTaken, exclusive_lock, make_private_folder
from infra.http.operators.action_log import FILE, NEXT_STEP, ActionLog
from infra.listening import inherited, listening


class CannotStart(Exception):
    """The process cannot start: its port or folder cannot be used. The message names the cause."""


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens on this address; close it in the end. If the starter holds one, it is that one.

    Raises CannotStart.
    """
    try:
        listener = inherited(port) or listening(host, port)
    except OSError as error:
        raise CannotStart(f"port {port} on {host} cannot be used: {error.strerror}") from error
    with listener:
        yield listener


def open_action_log(folder: Path) -> ActionLog:
    """Return the log of what operators do, in this folder of the service. Raises CannotStart."""
    try:
        return ActionLog(folder / FILE)
    except OSError as error:
        raise CannotStart(
            f"the operators' log {folder / FILE} cannot be used: {error.strerror}; {NEXT_STEP}"
        ) from error


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a service's folder in the context: one process per store.

    Makes the folder if missing, and keeps other users out of it (`make_private_folder`). Raises CannotStart, at once if
    another process has the lock.
    """
    with contextlib.ExitStack() as stack:
        try:
            make_private_folder(folder)
            stack.enter_context(exclusive_lock(folder / "lock"))
        except LockTaken as holder:
            raise CannotStart(f"another process of this service ({holder}) works on {folder}; stop it first") from None
        except OSError as error:
            raise CannotStart(f"{folder} cannot be used: {error.strerror}") from error
        yield
