"""Keeps the log position up to which an HTTP receiver has acknowledged all rows, in a file.

The position of a batch is on the disk before the next batch is sent.
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from contracts.fact import DECODE_ERRORS
from infra import files
from infra.export.errors import SinkError
from infra.export.rows import START, ExportPosition


class _Stored(Struct, frozen=True):
    position: int
    fact_id: str
    receiver: str


class CursorFile:
    """Reads and writes the file with an export position and the address of the receiver that acknowledged it.

    `receiver` is the address of the receiver in use.
    """

    def __init__(self, path: Path, receiver: str) -> None:
        self.path = path
        self._receiver = receiver

    def read(self) -> ExportPosition:
        """Return the stored position; START if there is no file.

        Raises SinkError if the file cannot be read, or has the position of another receiver.
        """
        try:
            stored = msgspec.json.decode(self.path.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return START
        except (OSError, *DECODE_ERRORS) as error:
            raise SinkError(
                f"{self.path} cannot be read: {error}. Delete it: the export sends all rows again, and the receiver "
                "knows their keys"
            ) from error
        if stored.receiver != self._receiver:
            raise SinkError(
                f"{self.path} belongs to the receiver {stored.receiver}, but EXPORT_HTTP_URL is {self._receiver}. "
                "Move the file away to send all rows to the new receiver; if both are the same, change `receiver` in it"
            )
        return ExportPosition(stored.position, stored.fact_id)

    def write(self, position: ExportPosition) -> None:
        """Replace the stored position, durably; makes the file and its folder if missing. Raises OSError."""
        files.make_folder(self.path.parent)
        files.write(self.path, msgspec.json.encode(_Stored(*position, self._receiver)) + b"\n")
