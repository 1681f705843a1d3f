"""The port that the export's loop writes rows to. Its errors are in `infra.export.errors`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from infra.export.rows import ExportPosition, Row
from infra.export.totals import Totals


class Limits(NamedTuple):
    """The export commits the rows in hand when they reach any of these. `bytes`: the size of the facts in the log."""

    rows: int
    bytes: int
    age_s: float


class Sink(Protocol):
    """Takes rows in log order. Only the process that holds the lock may call `commit` and `rewind`."""

    @property
    def limits(self) -> Limits: ...

    def lock(self) -> AbstractContextManager[None]:
        """The lock that this process holds while it writes. Taking it also removes the leftovers of a crash.

        Raises SinkError if another export holds it.
        """

    async def position(self) -> ExportPosition:
        """How far the sink has got; the rows behind this position are still to be written. Raises SinkError."""

    async def commit(self, rows: Sequence[Row]) -> None:
        """Store these rows durably, each once. When this returns, the sink's position is that of the last row.

        Some of them may be in the sink already, from an attempt that was cut short. One call is one attempt.
        Raises Unavailable.
        """

    async def rewind(self, to: ExportPosition) -> None:
        """Remove the rows behind this position. Never moves forward. Raises Unavailable.

        If it is cut short, the rows that remain are still all rows up to some position.
        """

    async def totals(self, through: ExportPosition) -> Totals:
        """Count the dataset up to and including this position. Raises Unavailable, SinkError."""

    async def close(self) -> None: ...
