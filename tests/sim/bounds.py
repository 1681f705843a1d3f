"""The limits of the services in one schedule. Small ones let a handful of orders reach what takes thousands otherwise:
the window's end, a full state cache, a second page of an answer."""

from typing import Final, NamedTuple

from infra.consuming.limits import SessionLimits
from infra.core.limits import WriterLimits
from infra.store.tail import TAIL_RECORDS
from tests.sim.chance import Chance

_SESSION: Final = SessionLimits()
_WRITER: Final = WriterLimits()


class Bounds(NamedTuple):
    """By default those of the product."""

    window: int = _SESSION.window
    read_batch: int = _SESSION.read_batch
    pull_batch: int = _SESSION.pull_batch
    max_ack_pending: int = _SESSION.max_ack_pending
    ack_wait_ms: int = int(1e3 * _SESSION.ack_wait_s)
    remembered_positions: int = _SESSION.remembered_positions
    first_span: int = _SESSION.first_span
    direct_batch: int = _SESSION.direct_batch
    max_batch: int = _WRITER.max_batch
    cached_states: int = _WRITER.cached_states
    snapshot_every: int = _WRITER.snapshot_every
    tail_records: int = TAIL_RECORDS
    duplicate_window_s: int = 120
    replicas: int = 1

    @property
    def of_a_session(self) -> SessionLimits:
        return SessionLimits(
            window=self.window,
            read_batch=self.read_batch,
            pull_batch=self.pull_batch,
            max_ack_pending=self.max_ack_pending,
            ack_wait_s=self.ack_wait_ms / 1e3,
            remembered_positions=self.remembered_positions,
            first_span=self.first_span,
            direct_batch=self.direct_batch,
        )

    @property
    def of_a_writer(self) -> WriterLimits:
        return WriterLimits(
            max_batch=self.max_batch, cached_states=self.cached_states, snapshot_every=self.snapshot_every
        )

    def __str__(self) -> str:
        ours = zip(self._fields, self, Bounds(), strict=True)
        return ", ".join(f"{name} {value}" for name, value, usual in ours if value != usual) or "as usual"


SMALL: Final[dict[str, tuple[int, ...]]] = {
    "window": (1, 2, 4, 8),
    "read_batch": (1, 2, 5),
    "pull_batch": (2, 3, 5),
    "max_ack_pending": (1, 2, 4),
    "ack_wait_ms": (300,),
    "remembered_positions": (1, 2, 4),
    "first_span": (1, 3, 8),
    "direct_batch": (1, 2, 5),
    "max_batch": (1, 2, 3),
    "cached_states": (1, 2, 4),
    "snapshot_every": (1, 2, 3),
    "tail_records": (1, 2, 5),
    "duplicate_window_s": (0,),
    "replicas": (3,),
}
"""What a schedule may draw."""


LEAST: Final = {"pull_batch": 2, "duplicate_window_s": 0}
"""The smallest values, where it is not 1."""


def drawn(chance: Chance) -> Bounds:
    """Some bounds at small values, the others as usual."""
    share = chance.choice((0.2, 0.5, 0.8))
    return Bounds(**{name: chance.choice(values) for name, values in SMALL.items() if chance.happens(share)})
