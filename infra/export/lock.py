"""A lock by which only one export at a time writes to a sink."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from infra import files
from infra.export.errors import SinkError
from infra.files import LockTaken, exclusive_lock


@contextlib.contextmanager
def one_export(path: Path, what: str) -> Iterator[None]:
    """Hold a lock on this file inside the `with`; makes the file and its folder if missing.

    Raises SinkError at once if another export has the lock, with `what` it protects in the message, or if the folder
    cannot be used.
    """
    with contextlib.ExitStack() as stack:
        try:
            files.make_folder(path.parent)
            stack.enter_context(exclusive_lock(path))
        except LockTaken:
            raise SinkError(f"another export works on {what}; stop that one first") from None
        except OSError as error:
            raise SinkError(f"{path.parent} cannot be used: {error.strerror}") from error
        yield
