"""A writer's limits: how much work it takes at once, and how long it waits."""

from dataclasses import dataclass

from infra.core.state_cache import CACHED_STATES, SNAPSHOT_EVERY


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """Limits of one Writer: the sizes and pace of its batches, its queue, its snapshots, its cache.

    The defaults for batches were measured with all services under load (docs/benchmark.md).
    """

    max_batch: int = 128
    """Requests and deliveries in one batch, at most. Deciding that many blocks the event loop for about 5 ms."""

    few: int = 24
    """With fewer requests and deliveries waiting, the next batch is small, and `pace_s` applies to it."""

    pace_s: float = 0.003
    """Minimum seconds from the start of a batch to the start of a small one: a commit costs far more than one more
    command in it. A command that comes later than that does not wait, nor one after a batch of one: they are too rare
    to share a commit."""

    max_waiting_requests: int = 4_096
    """With this many requests and deliveries in the queue `execute` raises Busy. Deliveries are always queued: the
    consumer's max_ack_pending limits them."""

    recheck_s: float = 1.0
    """Seconds until the writer reads from the store whether a failed append was recorded, if no work arrives before."""

    snapshot_every: int = SNAPSHOT_EVERY
    """Versions of one stream between two snapshots."""

    cached_states: int = CACHED_STATES
    """States in the cache, at most."""
