"""A writer's limits: how much work it takes at once, and how long it waits."""

from dataclasses import dataclass

from infra.core.state_cache import SNAPSHOT_EVERY


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """The defaults were measured with all services under load (docs/benchmark.md)."""

    max_batch: int = 128
    """Commands decided at once, at most. Deciding that many blocks the event loop for about 5 ms."""

    few: int = 24
    """A batch of fewer commands is small: it waits for `pace_s`."""

    pace_s: float = 0.003
    """Minimum seconds between the starts of two small batches: a commit costs far more than one more command in it.
    An isolated command never waits."""

    max_waiting_requests: int = 4_096
    """Requests and deliveries waiting for their commit. With that many `execute` raises Busy; the consumer's
    max_ack_pending limits deliveries instead."""

    recheck_s: float = 1.0
    """Seconds after a failed append until the writer reads whether it was recorded, if no work arrives before."""

    snapshot_every: int = SNAPSHOT_EVERY
    """Versions of one stream between two snapshots."""
