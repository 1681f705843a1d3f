"""Where rows go: the port that the export's loop writes to."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from infra.export.rows import ExportPosition, Row
from infra.export.totals import Totals


class SinkError(Exception):
    """The sink cannot be used as it is; somebody has to do something, and the message says what."""


class Unavailable(Exception):
    """The sink did not take the rows, this time. They are still in hand, and are offered again.

    `lasting`: trying again at once would change nothing. `retry_after_s`: what the sink asked to be given.
    """

    def __init__(self, reason: str, *, lasting: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.lasting = lasting
        self.retry_after_s = retry_after_s


class Limits(NamedTuple):
    """When what is in hand is committed: at any of these. `bytes` are those of the facts, as the log has them."""

    rows: int
    bytes: int
    age_s: float


class Sink(Protocol):
    """Rows come in log order. All methods but `mark` are for the one process that holds the lock."""

    @property
    def limits(self) -> Limits: ...

    def lock(self) -> AbstractContextManager[None]:
        """Held while this process writes; also clears away what a crash left. Raises SinkError if another holds it."""

    async def position(self) -> ExportPosition:
        """How far the sink has got; what lies behind is still to be written. Raises SinkError."""

    async def commit(self, rows: Sequence[Row]) -> None:
        """Take these rows, durably, once: if it returns, the mark stands at the last. One attempt; raises Unavailable.

        Some of them may be in it already, from an attempt that was cut short.
        """

    async def rewind(self, to: ExportPosition) -> None:
        """Forget what lies behind this mark; cut short, a beginning of what there was remains. Never goes forward."""

    async def totals(self, through: ExportPosition) -> Totals:
        """What the dataset has, up to and with this mark. Raises Unavailable, SinkError."""

    async def close(self) -> None: ...
