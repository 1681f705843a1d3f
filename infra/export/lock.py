"""One export per sink."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from infra.export import durable
from infra.export.sink import SinkError


@contextlib.contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Held by a lock on this file, which the kernel gives back however the process ends. Raises SinkError."""
    try:
        durable.make_folder(path.parent)
        file = path.open("w")
    except OSError as error:
        raise SinkError(f"{path.parent} cannot be used: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SinkError(f"another export works on {what}; stop that one first") from None
        yield
