"""The position that an HTTP receiver has acknowledged. It is on the disk before the next batch is sent."""

from pathlib import Path

import msgspec
from msgspec import Struct

from infra import files
from infra.export.errors import SinkError
from infra.export.rows import START, ExportPosition


class _Stored(Struct, frozen=True):
    position: int
    fact_id: str
    receiver: str


class CursorFile:
    """The file that stores a receiver's position and the receiver's address."""

    def __init__(self, path: Path, receiver: str) -> None:
        self.path = path
        self._receiver = receiver

    def read(self) -> ExportPosition:
        """The position; START without a file. Raises SinkError if it is unreadable or another receiver's."""
        try:
            stored = msgspec.json.decode(self.path.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return START
        except (OSError, msgspec.DecodeError) as error:
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
        """Store the position durably. Raises OSError."""
        files.make_folder(self.path.parent)
        files.write(self.path, msgspec.json.encode(_Stored(*position, self._receiver)) + b"\n")
