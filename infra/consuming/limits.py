"""The limits of a service's sessions with the broker: how much each part takes at once, and remembers."""

from dataclasses import dataclass

from infra.broker.consumers import ACK_WAIT_S, MAX_ACK_PENDING
from infra.broker.leader import BATCH, FIRST_SPAN
from infra.broker.relay import READ_BATCH
from infra.broker.truncation import KEPT
from infra.broker.window import WINDOW
from infra.consuming.consumer import PULL_BATCH


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Limits of a service's sessions; the constants say what they mean. The simulator sets small ones.

    Every process of a service must have the same `window`: a hole lies no further back than the window of the process
    that left it.
    """

    window: int = WINDOW
    read_batch: int = READ_BATCH
    pull_batch: int = PULL_BATCH
    max_ack_pending: int = MAX_ACK_PENDING
    ack_wait_s: float = ACK_WAIT_S
    remembered_positions: int = KEPT
    first_span: int = FIRST_SPAN
    direct_batch: int = BATCH
