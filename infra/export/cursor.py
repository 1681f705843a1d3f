"""How far an HTTP receiver has acknowledged: on the disk before the next batch is sent."""

from pathlib import Path

import msgspec
from msgspec import Struct

from infra import files
from infra.export.rows import START, ExportPosition
from infra.export.sink import SinkError


class _Stored(Struct, frozen=True):
    position: int
    fact_id: str
    receiver: str


class CursorFile:
    def __init__(self, path: Path, receiver: str) -> None:
        self.path = path
        self._receiver = receiver

    def read(self) -> ExportPosition:
        """Raises SinkError if it is damaged, or of another receiver."""
        try:
            stored = msgspec.json.decode(self.path.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return START
        except (OSError, msgspec.DecodeError) as error:
            raise SinkError(
                f"{self.path} cannot be read: {error}. Delete it: all is sent again, and the receiver knows the keys"
            ) from error
        if stored.receiver != self._receiver:
            raise SinkError(
                f"{self.path} says how far {stored.receiver} has got, but EXPORT_HTTP_URL is {self._receiver}. "
                "Move it away and all is sent to the new one; change `receiver` in it if the two are the same"
            )
        return ExportPosition(stored.position, stored.fact_id)

    def write(self, mark: ExportPosition) -> None:
        """Raises OSError."""
        files.make_folder(self.path.parent)
        files.write(self.path, msgspec.json.encode(_Stored(*mark, self._receiver)) + b"\n")
