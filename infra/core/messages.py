"""A message as a consumer delivers it, and the interface by which its handler reports the result."""

from typing import NamedTuple, Protocol


class StreamPosition(NamedTuple):
    """A message's place in the stream EVENTS: its sequence and the time the broker stored it (µs since 1970)."""

    sequence: int
    stored_us: int


class Delivery(NamedTuple):
    """Delivery number `number` of a session.

    The acknowledgement goes to `ack_subject`. `raw_headers` are the message's headers as they travelled.
    """

    fact_id: str
    body: bytes
    ack_subject: str
    position: StreamPosition
    subject: str
    raw_headers: bytes = b""
    number: int = 0

    @property
    def key(self) -> str:
        """The subject's last token. Deliveries of one key are handled in their order."""
        return self.subject.rpartition(".")[2]

    def same_as(self, other: "Delivery") -> bool:
        """Whether both carry the same fact. Without a fact id they do if they have the same position."""
        return self.fact_id == other.fact_id if self.fact_id else self.position == other.position


class Acknowledger(Protocol):
    """The consumer's side of a delivery. The handler reports its result here."""

    closed: bool
    """Whether the session is over: then the delivery will come again, and a report has no effect."""

    def defers(self, delivery: Delivery) -> bool:
        """Whether an earlier delivery of its key waits. If so, the acknowledger takes this one back: it waits, too."""

    def rejected(self, delivery: Delivery, error: Exception) -> None:
        """This delivery cannot be handled: `error` says why. Nothing of it is recorded."""

    def handled(self, delivery: Delivery) -> None:
        """The reactions to this delivery, and to all before it except waiting ones, are recorded."""

    def failed(self, error: Exception) -> None:
        """Handling failed altogether: every unacknowledged delivery has to come again."""
