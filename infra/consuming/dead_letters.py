"""Dead letters: messages that a consumer could not handle, and those of the same key behind them, kept in a stream.

One message stands under `dead.<consumer>.<key>` with its original bytes as the body; what became of it is in the
headers. Nothing is acknowledged before it stands there. Which keys wait is asked of the stream at each session, so
it outlives the process.
"""

import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import structlog
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RawStreamMsg, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from infra.broker.streams import KEEPS, MAX_FACT_BYTES, compare
from infra.core.messages import Delivery, StreamPosition
from infra.settings import Settings
from infra.timestamps import EPOCH, now

logger = structlog.get_logger()

DEAD: Final = "DEAD"
PREFIX: Final = "dead"
MAX_BYTES: Final = 1 << 30
MAX_STACK: Final = 8 << 10  # characters; the end of it
NOT_THERE: Final = frozenset({10_043, 10_057})
"""What nats-server says to whoever deletes what is not there: with status 400, or 500 where it never was or none is."""
REMEMBERED: Final = 256  # letters that are written again if the broker loses its tail


class DeadLetter(NamedTuple):
    """One dead letter, at `sequence` of the stream DEAD; parked `at` an instant (UTC).

    `attempts` is 0 and `error` says behind what it waits, if it was never tried. `subject`, `body`, `headers`, `origin`
    are those of the message in EVENTS.
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
        """The message as it was delivered."""
        return Delivery(self.fact_id, self.body, "", self.origin, self.subject, self.head)


def stream_config(settings: Settings) -> StreamConfig:
    """No letter goes by itself. A full stream refuses more: then hearing stops. Redriven and dropped ones go."""
    return StreamConfig(
        name=DEAD,
        description="Messages that a consumer could not handle, and those of the same order behind them",
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


class DeadLetters:
    """A consumer's dead letters, over all its sessions."""

    def __init__(self, consumer: str, settings: Settings, clock: Callable[[], datetime] = now) -> None:
        self._consumer = consumer
        self._settings = settings
        self._clock = clock
        self._js: JetStreamContext | None = None
        self._letters: dict[str, dict[int, DeadLetter]] = {}
        """By key, by sequence of DEAD."""
        self._recent: deque[DeadLetter] = deque(maxlen=REMEMBERED)

    def has(self, key: str) -> bool:
        """Whether later messages of this key have to wait behind others."""
        return key in self._letters

    @property
    def empty(self) -> bool:
        return not self._letters

    @property
    def depth(self) -> int:
        return sum(map(len, self._letters.values()))

    @property
    def oldest(self) -> datetime | None:
        """When the first of them was parked."""
        return min((letter.at for found in self._letters.values() for letter in found.values()), default=None)

    def of(self, key: str) -> list[DeadLetter]:
        """Those of this key, in the order in which their messages came, without bodies."""
        return list(self._letters.get(key, {}).values())

    @property
    def keys(self) -> list[str]:
        return list(self._letters)

    async def open(self, js: JetStreamContext) -> None:
        """A session begins: make the stream if it is missing, and ask what it has.

        Raises StreamMisconfigured if there is one that could lose letters; the client's errors.
        """
        wanted = stream_config(self._settings)
        try:
            compare((await js.stream_info(DEAD)).config, wanted, KEEPS)
        except NotFoundError:
            await js.add_stream(wanted)
        self._js = js
        self._letters.clear()
        async for letter in read(js, f"{PREFIX}.{self._consumer}.*"):
            self._remember(letter)
        lost = [letter for letter in self._recent if letter.sequence not in self._letters.get(letter.key, {})]
        for letter in lost:
            logger.warning("the broker lost a dead letter: it is written again", key=letter.key, fact_id=letter.fact_id)
            self._recent.remove(letter)
            await self._write(letter)

    async def park(self, delivery: Delivery, error: Exception | None, attempts: int) -> None:
        """Returns when the message stands in DEAD. Without an error it waits behind others of its key.

        Raises the client's errors.
        """
        ahead = self.of(delivery.key)
        if any(letter.delivery.same_as(delivery) for letter in ahead):
            return  # it came again
        letter = DeadLetter(
            sequence=0,
            consumer=self._consumer,
            key=delivery.key,
            at=self._clock(),
            attempts=attempts,
            error=f"{type(error).__name__}: {error}" if error else f"waits behind {ahead[0].sequence}",
            stack="".join(traceback.format_exception(error))[-MAX_STACK:] if error else "",
            subject=delivery.subject,
            fact_id=delivery.fact_id,
            origin=delivery.position,
            head=delivery.raw_headers,
            body=delivery.body,
        )
        logger.error("parked", key=letter.key, fact_id=letter.fact_id, attempts=attempts, error=letter.error)
        await self._write(letter)

    async def _write(self, letter: DeadLetter) -> None:
        ack = await self._stream.publish(
            f"{PREFIX}.{letter.consumer}.{letter.key}", letter.body, stream=DEAD, headers=_headers(letter)
        )
        letter = letter._replace(sequence=ack.seq)
        self._recent.append(letter)
        self._remember(letter)

    def _remember(self, letter: DeadLetter) -> None:
        self._letters.setdefault(letter.key, {})[letter.sequence] = letter._replace(body=b"", stack="")

    async def whole(self, letter: DeadLetter) -> DeadLetter | None:
        """The letter with its body; None: somebody has deleted it. Raises the client's errors."""
        try:
            return parsed(await self._stream.get_msg(DEAD, letter.sequence))
        except NotFoundError:
            self._forget(letter)
            return None

    async def remove(self, letter: DeadLetter) -> None:
        """It was redriven, or dropped. Raises the client's errors."""
        try:
            await self._stream.delete_msg(DEAD, letter.sequence)
        except APIError as error:
            if error.err_code not in NOT_THERE:
                raise
        self._forget(letter)

    def _forget(self, letter: DeadLetter) -> None:
        found = self._letters.get(letter.key, {})
        found.pop(letter.sequence, None)
        if not found:
            self._letters.pop(letter.key, None)
        self._recent = deque((kept for kept in self._recent if kept.sequence != letter.sequence), REMEMBERED)

    @property
    def _stream(self) -> JetStreamContext:
        assert self._js is not None, "before any session"
        return self._js


async def read(js: JetStreamContext, subject: str) -> AsyncIterator[DeadLetter]:
    """The letters under this subject of DEAD, in their order. Raises the client's errors."""
    sequence = 0
    while True:
        try:
            message = await js.get_msg(DEAD, sequence + 1, subject, next=True)
        except NotFoundError:
            return
        letter = parsed(message)
        sequence = letter.sequence
        yield letter


def _headers(letter: DeadLetter) -> dict[str, str]:
    """The message's own headers are one of them: sent as such, the server would act on some."""
    values = {
        "At": letter.at.isoformat(),
        "Attempts": str(letter.attempts),
        "Error": letter.error,
        "Stack": letter.stack,
        "Subject": letter.subject,
        "Fact-Id": letter.fact_id,
        "Sequence": str(letter.origin.sequence),
        "Stored": str(letter.origin.stored_us),
        "Headers": letter.head.decode("latin-1"),
    }
    return {f"Dead-{name}": value.encode("unicode_escape").decode() for name, value in values.items() if value}


def parsed(message: RawStreamMsg) -> DeadLetter:
    """The letter in a message of DEAD. One that somebody else wrote is one, too: what it does not say is empty."""

    def told(name: str) -> str:
        value: str = (message.headers or {}).get(f"Dead-{name}", "")
        try:
            return value.encode().decode("unicode_escape")
        except UnicodeDecodeError:
            return value

    def number(name: str) -> int:
        return int(told(name)) if told(name).isdecimal() else 0

    try:
        at = datetime.fromisoformat(told("At"))
    except ValueError:
        at = EPOCH
    _, consumer, key = f"{message.subject}..".split(".", 2)
    return DeadLetter(
        sequence=int(message.seq or 0),
        consumer=consumer,
        key=key.removesuffix(".."),
        at=at if at.tzinfo else at.replace(tzinfo=UTC),
        attempts=number("Attempts"),
        error=told("Error"),
        stack=told("Stack"),
        subject=told("Subject"),
        fact_id=told("Fact-Id"),
        origin=StreamPosition(number("Sequence"), number("Stored")),
        head=told("Headers").encode("latin-1", "replace"),
        body=message.data or b"",
    )
