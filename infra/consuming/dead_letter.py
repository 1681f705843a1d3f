"""One dead letter, and the configuration of the stream DEAD that holds it."""

from datetime import datetime
from typing import Final, NamedTuple

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from infra.broker.streams import MAX_FACT_BYTES
from infra.core.messages import Delivery, StreamPosition
from infra.settings import Settings

DEAD: Final = "DEAD"
PREFIX: Final = "dead"
WAITS: Final = "waits behind "
"""How the error of a message that was not tried begins; then comes the sequence of its key's first dead letter."""
MAX_BYTES: Final = 1 << 30


ERRORS: Final = (
    *("DecodeError", "FoldError", "ForeignMessage", "OfNewerCode", "StreamUnreadable", "TooLarge", "Unpublishable"),
    *("ValidationError", "waits", "other"),
)
"""The kinds of errors by which dead letters are counted: names of types; `waits`: an earlier one of its key waits."""


def kind_of(error: Exception | None) -> str:
    """Return the kind in ERRORS of the error that made a dead letter: `other` if its type is not listed there.

    None: `waits`, as the message was not tried.
    """
    name = "waits" if error is None else type(error).__name__
    return name if name in ERRORS else "other"


class DeadLetter(NamedTuple):
    """A listener's dead letter, at `sequence` of the stream DEAD (0: not written yet), made `at` an instant (UTC).

    `consumer` is the listener's name. `attempts` counts the failed attempts before it was written, and no redrives;
    `error` and `stack` are the last one's. `attempts` is 0 for a message that was not tried because earlier ones of
    its key are dead letters; then `error` has the first one's sequence. `subject`, `fact_id`, `body`, `head` (raw
    headers) and `origin` (stream position) are the original message's.
    """

    sequence: int
    consumer: str
    key: str
    at: datetime
    attempts: int
    error: str
    stack: str
    subject: str
    fact_id: str
    origin: StreamPosition
    head: bytes
    body: bytes
    cut: str = ""
    """Names of the parts, except the stack, that are not kept whole, such as `Headers Body`; empty if all are.

    Known only of a dead letter that was read from DEAD."""

    @property
    def identity(self) -> tuple[str, str, datetime, StreamPosition]:
        """What tells this dead letter from any other: a sequence can be given again, once the broker has lost it."""
        return self.consumer, self.key, self.at, self.origin

    @property
    def delivery(self) -> Delivery:
        """What is kept of the original message, to be handled again; it has no `ack_subject` any more.

        Its body is empty if this dead letter comes from a list: `DeadLetters.load` adds the body.
        """
        return Delivery(self.fact_id, self.body, "", self.origin, self.subject, self.head)


def stream_config(settings: Settings) -> StreamConfig:
    """Return the configuration that DEAD should have: a dead letter stays until it is redriven or dropped.

    A full stream refuses new dead letters. The listener's session then fails, and the messages come again.
    """
    return StreamConfig(
        name=DEAD,
        description="Messages that a consumer could not handle, and those of the same key behind them",
        subjects=[f"{PREFIX}.>"],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        max_bytes=min(MAX_BYTES, settings.events_max_bytes),
        max_msgs=-1,
        max_msgs_per_subject=-1,
        max_age=0,
        allow_direct=True,
        no_ack=False,
        deny_delete=False,
        max_msg_size=4 * MAX_FACT_BYTES,
        num_replicas=settings.events_replicas,
    )
