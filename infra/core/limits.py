"""How much a writer takes on at once, and how long it waits."""

from dataclasses import dataclass

from infra.core.state_cache import SNAPSHOT_EVERY


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """The defaults were measured with all services under load (docs/benchmark.md)."""

    max_batch: int = 128
    """Commands decided in one go. The event loop is blocked for about 5 ms by that many."""

    few: int = 24
    """A batch of fewer commands is small: it waits for `pace_s`."""

    pace_s: float = 0.003
    """Minimum time between the starts of two small batches: the fixed cost of a commit dwarfs one more command.
    An isolated command never waits."""

    max_waiting_requests: int = 4_096
    """Requests and deliveries waiting for their commit. Above it `execute` raises Busy; deliveries are bounded by the
    consumer's max_ack_pending instead."""

    recheck_s: float = 1.0
    """How long after a failed append the writer reads whether it was recorded, if no further work arrives before."""

    snapshot_every: int = SNAPSHOT_EVERY
    """Versions of one stream between two snapshots."""
