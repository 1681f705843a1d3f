"""A message as a consumer delivers it, and the interface by which its handler reports the result."""

from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from contracts.origin import log_fields

MAX_KEY: Final = 128  # characters; the longest id has 64


class StreamPosition(NamedTuple):
    """A message's place in the stream EVENTS: its sequence, and when the broker stored it (µs since 1970, UTC)."""

    sequence: int
    stored_us: int


class Delivery(NamedTuple):
    """A message of EVENTS, as a consumer delivered it in a session, or as a dead letter or the archive keeps it.

    `fact_id` is its `Nats-Msg-Id`, empty if it has none; `body` is the fact's JSON, or whatever somebody else sent;
    `raw_headers` are its headers as they travelled. `number` counts the consumer's deliveries in the session from 1.
    The acknowledgement goes to `ack_subject`. Outside a session `number` is 0 and `ack_subject` empty.
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
        """The subject's last token. A service's later deliveries of the key wait behind one that failed.

        Of a token that is longer than MAX_KEY, a hash takes the place of its end, so that subjects with the key fit
        into the broker's line of 4,096 bytes.
        """
        token = self.subject.rpartition(".")[2]
        if len(token) <= MAX_KEY:
            return token
        return f"{token[:64]}~{sha256(token.encode(errors='backslashreplace')).hexdigest()[:32]}"

    @property
    def log_fields(self) -> dict[str, str]:
        """The fields of a log line about this message; see `contracts.origin.log_fields`."""
        return log_fields(self.subject, self.fact_id, self.body)

    def same_as(self, other: "Delivery") -> bool:
        """Whether both deliveries have the same fact id, not empty, or the same stream position."""
        return self.position == other.position or (self.fact_id != "" and self.fact_id == other.fact_id)


class Acknowledger(Protocol):
    """Takes the results of a consumer's deliveries from their handler, to acknowledge or retry them."""

    name: str
    """The consumer's: the key of its `ConsumerPlace`."""
    durable: str
    """The consumer's at the broker, which is the same in each generation of the stream."""
    closed: bool
    """Whether the session is over. Nothing more is acknowledged then: unacknowledged deliveries come again later."""

    def defers(self, delivery: Delivery) -> bool:
        """Take this delivery back into the retry queue, if that has work of its key, or the key has dead letters.

        Returns whether it was taken back. If so, the handler must not handle it. A handler that has to keep the order
        of a key calls this before it handles a delivery.
        """

    def rejected(self, delivery: Delivery, error: Exception) -> None:
        """Report that this delivery cannot be handled because of `error`, and that nothing of it was recorded.

        The delivery then goes to the retry queue.
        """

    def handled(self, delivery: Delivery) -> None:
        """Report that everything is recorded that follows from the consumer's deliveries up to and with this one.

        The report says nothing of deliveries that were taken back or rejected; this one may be one of those. Each of
        the others may be acknowledged once no delivery before it waits.
        """

    def failed(self, error: Exception) -> None:
        """Report that handling failed as a whole. This ends the session: every unacknowledged delivery comes again."""
