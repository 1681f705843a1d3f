"""What a service takes for itself before it starts: its port and its folder."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from infra.files import LockTaken, exclusive_lock, make_private_folder
from infra.http.server import BACKLOG


class CannotStart(Exception):
    """The process cannot start: its port or folder cannot be used. The message names the cause."""


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on this address until the context ends. Raises CannotStart."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            # Listen at once: two sockets may be bound to one port as long as neither listens.
            listener.listen(BACKLOG)
        except OSError as error:
            raise CannotStart(f"port {port} on {host} cannot be used: {error.strerror}") from error
        yield listener


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a service's folder, made if missing: one process per store. Raises CannotStart."""
    with contextlib.ExitStack() as stack:
        try:
            make_private_folder(folder)
            stack.enter_context(exclusive_lock(folder / "lock"))
        except LockTaken as holder:
            raise CannotStart(f"another process of this service ({holder}) works on {folder}; stop it first") from None
        except OSError as error:
            raise CannotStart(f"{folder} cannot be used: {error.strerror}") from error
        yield
