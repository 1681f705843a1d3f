"""A message as a consumer delivers it, and what whoever is told of it says back."""

from typing import NamedTuple, Protocol


class StreamPosition(NamedTuple):
    """What was heard at this sequence of the stream, the broker had stored at this instant (µs since 1970)."""

    sequence: int
    stored_us: int


class Delivery(NamedTuple):
    """Delivery number `number` of a session: what stands at the `mark` in the stream.

    `ack_subject` is the subject its acknowledgement goes to; `head`: its headers as they travel.
    """

    fact_id: str
    body: bytes
    ack_subject: str
    position: StreamPosition
    subject: str
    head: bytes = b""
    number: int = 0

    @property
    def key(self) -> str:
        """The subject's last token: the order that the message is about."""
        return self.subject.rpartition(".")[2]

    def same_as(self, other: "Delivery") -> bool:
        """Whether both are the same fact; what has no id is only the same where it stands."""
        return self.fact_id == other.fact_id if self.fact_id else self.position == other.position


class Acknowledger(Protocol):
    """Where deliveries came from, and wants to know what became of them."""

    closed: bool

    def defers(self, delivery: Delivery) -> bool:
        """Whether this one must not be decided now, because one of its key before it waits; then it waits behind it."""

    def rejected(self, delivery: Delivery, error: Exception) -> None:
        """This one cannot be handled as it is; nothing of it is recorded."""

    def handled(self, delivery: Delivery) -> None:
        """What follows from this delivery, and from all before it but those that wait, is recorded."""

    def failed(self, error: Exception) -> None:
        """Whatever is not done has to be delivered again."""
