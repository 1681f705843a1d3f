"""The interface by which the export's loop writes rows to any sink. Its errors are in `infra.export.errors`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from infra.export.rows import ExportPosition, Row
from infra.export.totals import Totals


class Limits(NamedTuple):
    """The export commits the rows in hand when they reach any of these limits.

    `rows`: how many. `bytes`: the size of their facts in the log. `age_s`: seconds since the first was taken into hand.
    """

    rows: int
    bytes: int
    age_s: float


class Sink(Protocol):
    """Stores rows, which it takes in log order. The methods that write need the lock: `commit`, `rewind`, `compact`.

    Once such a method has ended, even by cancellation, it writes nothing more: the caller may give up the lock then.
    """

    @property
    def limits(self) -> Limits: ...

    def lock(self) -> AbstractContextManager[None]:
        """Return a context manager that holds the sink's lock: enter it before anything is written.

        Entering also checks the sink and removes the leftovers of a crash. It raises SinkError at once if another
        export holds the lock or the sink cannot be used.
        """

    async def position(self) -> ExportPosition:
        """Return how far the sink has got: the rows after this position are still to be written.

        Raises Unavailable, SinkError.
        """

    async def commit(self, rows: Sequence[Row]) -> None:
        """Store these rows, one or more, durably. After that, the sink's position is that of the last row.

        Some of the rows may be in the sink already, from an attempt that was cut short; they count once. One call is
        one attempt, and the caller may repeat it. Raises Unavailable.
        """

    async def rewind(self, to: ExportPosition) -> None:
        """Move the sink's position back to `to`, or to an earlier one, so that later rows are written again.

        A `to` after the sink's position changes nothing. A file sink removes the rows after its new position; an HTTP
        receiver keeps them. If `rewind` is cut short, the sink still has all rows up to its position.
        Raises Unavailable, SinkError.
        """

    async def compact(self, stopped: Callable[[], bool]) -> bool:
        """Do a part of the maintenance that waits for a quiet moment; return whether another call may find more to do.

        Changes neither rows nor position, and gives up if `stopped` returns True. Errors are logged, not raised.
        """

    async def totals(self, through: ExportPosition) -> Totals:
        """Count and sum the dataset's rows up to and including this position. Raises Unavailable, SinkError."""

    async def close(self) -> None: ...
