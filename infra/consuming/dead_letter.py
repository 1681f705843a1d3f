"""One dead letter, and the message of the stream DEAD that holds it.

The message's subject is `dead.<consumer>.<key>`, and its body the original body. Everything else is in its headers.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RawStreamMsg, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from infra.broker.streams import MAX_FACT_BYTES
from infra.core.messages import Delivery, StreamPosition
from infra.settings import Settings
from infra.timestamps import EPOCH

DEAD: Final = "DEAD"
PREFIX: Final = "dead"
MAX_BYTES: Final = 1 << 30


class DeadLetter(NamedTuple):
    """A consumer's dead letter, at `sequence` of the stream DEAD (0: not written yet), written `at` an instant (UTC).

    `attempts` counts the failed attempts, `error` and `stack` are the last one's. `attempts` is 0 for a message that
    was not tried because an earlier one of its key is a dead letter; then `error` has that one's sequence. `subject`,
    `fact_id`, `body`, `head` (raw headers) and `origin` (stream position) are those of the message in EVENTS.
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

    @property
    def delivery(self) -> Delivery:
        """The original message, to be handled again; it cannot be acknowledged.

        Its body is empty if this dead letter comes from a list: `DeadLetters.load` adds the body.
        """
        return Delivery(self.fact_id, self.body, "", self.origin, self.subject, self.head)


def stream_config(settings: Settings) -> StreamConfig:
    """Return the configuration that DEAD should have: a dead letter stays until it is redriven or dropped.

    A full stream refuses new dead letters. The consumer's session then fails, and its messages come again.
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
        no_ack=False,
        deny_delete=False,
        max_msg_size=4 * MAX_FACT_BYTES,
        num_replicas=settings.events_replicas,
    )


async def read(js: JetStreamContext, subject: str) -> AsyncIterator[DeadLetter]:
    """Yield the dead letters under this subject of DEAD, with bodies, in the order of their sequences.

    The subject may have wildcards. Raises the client's errors.
    """
    sequence = 0
    while True:
        try:
            message = await js.get_msg(DEAD, sequence + 1, subject, next=True)
        except NotFoundError:
            return
        dead_letter = parsed(message)
        sequence = dead_letter.sequence
        yield dead_letter


def headers_of(dead_letter: DeadLetter) -> dict[str, str]:
    """Return the headers of the dead letter's message in DEAD, escaped to ASCII; empty fields have none.

    One header has all the original headers as its value: as headers of their own the server would act on some of them.
    """
    values = {
        "At": dead_letter.at.isoformat(),
        "Attempts": str(dead_letter.attempts),
        "Error": dead_letter.error,
        "Stack": dead_letter.stack,
        "Subject": dead_letter.subject,
        "Fact-Id": dead_letter.fact_id,
        "Sequence": str(dead_letter.origin.sequence),
        "Stored": str(dead_letter.origin.stored_us),
        "Headers": dead_letter.head.decode("latin-1"),
    }
    return {f"Dead-{name}": value.encode("unicode_escape").decode() for name, value in values.items() if value}


def parsed(message: RawStreamMsg) -> DeadLetter:
    """Return the dead letter that a message of DEAD holds. Any publisher's message there counts as one.

    A field that is missing is empty, 0, or the beginning of 1970 (`at`), and so is an unreadable time or number. A text
    with a broken escape is returned as it is. Raises ValueError for a number of more than 4,300 digits.
    """

    def value_of(name: str) -> str:
        value: str = (message.headers or {}).get(f"Dead-{name}", "")
        try:
            return value.encode().decode("unicode_escape")
        except UnicodeDecodeError:
            return value

    def number(name: str) -> int:
        return int(value_of(name)) if value_of(name).isdecimal() else 0

    try:
        at = datetime.fromisoformat(value_of("At"))
    except ValueError:
        at = EPOCH
    _, consumer, key = f"{message.subject}..".split(".", 2)
    return DeadLetter(
        sequence=int(message.seq or 0),
        consumer=consumer,
        key=key.removesuffix(".."),
        at=at if at.tzinfo else at.replace(tzinfo=UTC),
        attempts=number("Attempts"),
        error=value_of("Error"),
        stack=value_of("Stack"),
        subject=value_of("Subject"),
        fact_id=value_of("Fact-Id"),
        origin=StreamPosition(number("Sequence"), number("Stored")),
        head=value_of("Headers").encode("latin-1", "replace"),
        body=message.data or b"",
    )
