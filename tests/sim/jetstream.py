"""A model of nats-server: the stream's generations and their durable consumers, as far as this system relies on them.

`test_conformance.py` runs one script on the model and on the real server and compares their answers.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from nats.js.api import ConsumerConfig, ConsumerInfo, SequenceInfo, StreamConfig, StreamInfo, StreamState

from contracts.wire import MSG_ID, POSITION
from infra.broker.client import VERSION_LINE, header
from infra.broker.numbering import first_sequence, number_of
from infra.timestamps import microseconds
from tests.sim.loop import running
from tests.sim.reading import is_on

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)

ACK: Final = "$JS.ACK."
_ID: Final = MSG_ID.encode()
_POSITION: Final = POSITION.encode()
ROUNDING_S: Final = 1e-6


class Peer(Protocol):
    """The other end of a client's connection, as the server sees it. `began`: when, by the loop's time."""

    began: float

    def say(self, inbox: str, subject: str, reply: str, body: bytes, head: bytes) -> None:
        """Send the client a message that `inbox` gets."""

    def cut(self) -> None:
        """End the connection."""


class Stored(NamedTuple):
    """A message of the stream; `at` by the loop's time. Without a subject it is a hole: the sequence has no message."""

    sequence: int
    subject: str
    body: bytes
    head: bytes
    fact_id: str
    at: float

    @property
    def name(self) -> str:
        """Its subject without the last token."""
        return self.subject.rpartition(".")[0]

    @property
    def service(self) -> str:
        """The service that published it."""
        return self.subject.partition(".")[0]

    @property
    def position(self) -> int:
        """Its position in that service's log."""
        return int(header(self.head, _POSITION) or 0)

    @property
    def stored_ns(self) -> int:
        """When the message was stored, in nanoseconds since 1970."""
        return 1_000 * microseconds(EPOCH + timedelta(seconds=self.at))


@dataclass
class _Pull:
    peer: Peer
    inbox: str
    left: int
    expires_at: float


@dataclass
class Position:
    """The part of a consumer that is written to disk: how far it has delivered, and the acknowledgements."""

    looked: int = 0  # stream sequence up to which there is nothing more to deliver
    delivered: int = 0  # stream sequence
    deliveries: int = 0
    floor: int = 0  # stream sequence
    floor_deliveries: int = 0


class Consumer:
    """One durable pull consumer with cumulative acknowledgements."""

    def __init__(self, config: ConsumerConfig, stream: "Stream", name: str) -> None:
        self.config = config
        self.name = name
        self.at = Position(looked=stream.base, delivered=stream.base, floor=stream.base)
        self.kept = replace(self.at)
        """The position as of the last write to the disk."""
        self.truncated_after: int | None = None
        """The last sequence that the stream kept when this consumer outlived a loss; it has not gone back since."""
        self.heard = stream.base
        """The last sequence that was ever acknowledged, whatever the server forgot since."""
        self.is_new_to = False
        """Whether its service was started since: the process does not know what it has received."""
        self._stream = stream
        self._pending: dict[int, float] = {}
        """By sequence: when the message was last delivered."""
        self._pulls: deque[_Pull] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._woken: asyncio.TimerHandle | None = None
        self._loop = running()
        self.configure(config)

    def configure(self, config: ConsumerConfig) -> None:
        self.config = config
        self._hears = (config.filter_subject or "").removesuffix(".*")

    def wants(self, message: Stored) -> bool:
        return message.name == self._hears

    @property
    def outstanding(self) -> int:
        """The number of messages, delivered or not, that are not acknowledged."""
        return len(self._pending) + sum(self.wants(message) for message in self._stream.after(self.at.looked))

    def pull(self, peer: Peer, inbox: str, batch: int, expires_s: float) -> None:
        self._pulls.append(_Pull(peer, inbox, batch, self._loop.time() + expires_s))
        self._loop.call_later(expires_s, self._expire)
        self.deliver()

    def _expire(self) -> None:
        now = self._loop.time() + ROUNDING_S
        while self._pulls and self._pulls[0].expires_at <= now:
            pull = self._pulls.popleft()
            head = f"{VERSION_LINE} 408 Request Timeout\r\nNats-Pending-Messages: {pull.left}\r\n\r\n"
            pull.peer.say(pull.inbox, pull.inbox, "", b"", head.encode())

    def end(self) -> None:
        """The consumer is deleted: every request for its messages is over."""
        self._begin_anew()
        head = f"{VERSION_LINE} 409 Consumer Deleted\r\n\r\n".encode()
        while self._pulls:
            pull = self._pulls.popleft()
            pull.peer.say(pull.inbox, pull.inbox, "", b"", head)

    def forget(self, peer: Peer) -> None:
        """Drop this client's requests: it is gone."""
        self._pulls = deque(pull for pull in self._pulls if pull.peer is not peer)

    def wake(self, lag_s: float) -> None:
        """Deliver what has come, this much later. Consumers do not wait for each other."""
        if not lag_s:
            self.deliver()
        elif self._woken is None:
            self._woken = self._loop.call_later(lag_s, self._wake)

    def _wake(self) -> None:
        self._woken = None
        self.deliver()

    def deliver(self) -> None:
        """Deliver as many messages as there are, as were asked for, and as may wait for an acknowledgement."""
        stream, at, limit = self._stream, self.at, self.config.max_ack_pending or 0
        while self._pulls and at.looked < stream.last and len(self._pending) < limit:
            message = stream.at(at.looked + 1)
            at.looked += 1
            if self.wants(message):
                at.delivered = message.sequence
                self._hand_over(message)
        self._watch()

    def _hand_over(self, message: Stored, *, repeated: bool = False) -> None:
        pull, now = self._pulls[0], self._loop.time()
        self.at.deliveries += 1
        self._note(message, repeated)
        self._pending[message.sequence] = now
        place = f"{self._stream.name}.{self.name}"
        ack_subject = f"{ACK}{place}.1.{message.sequence}.{self.at.deliveries}.{message.stored_ns}.0"
        pull.peer.say(pull.inbox, message.subject, ack_subject, message.body, message.head)
        pull.left -= 1
        if not pull.left:
            self._pulls.popleft()

    def _note(self, message: Stored, repeated: bool) -> None:
        about = (self.name, message.sequence, message.name, message.fact_id[:18])
        self._loop.note("{} is sent {}: {} of {}" + (" again" if repeated else ""), *about)

    def _watch(self) -> None:
        if self._pending and self._timer is None:
            self._timer = self._loop.call_at(min(self._pending.values()) + (self.config.ack_wait or 0), self._repeat)

    def _repeat(self) -> None:
        """Deliver messages again that have waited for their acknowledgement for too long."""
        self._timer = None
        late = self._loop.time() - (self.config.ack_wait or 0) + ROUNDING_S
        for sequence in sorted(sequence for sequence, at in self._pending.items() if at <= late):
            if not self._pulls:
                self._pending[sequence] = self._loop.time()  # looked at again later
            else:
                self._hand_over(self._stream.at(sequence), repeated=True)
        self._watch()

    def ack(self, sequence: int, delivery: int) -> None:
        """Acknowledge this message and all before it. Messages that were not delivered are not acknowledged."""
        if self.at.floor < sequence <= self.at.delivered:
            self.at.floor, self.at.floor_deliveries = sequence, delivery
            self.heard = max(self.heard, sequence)
            self._loop.note("{} has acknowledged up to {}", self.name, sequence)
            for done in [pending for pending in self._pending if pending <= sequence]:
                del self._pending[done]
            self.deliver()

    def reset(self, sequence: int | None) -> None:
        """Deliver from this sequence on; None: the unacknowledged messages again. Deliveries count from 1."""
        floor = self.at.floor if sequence is None else sequence - 1
        self._loop.note("{} begins behind {}", self.name, floor)
        looked = max(floor, self._stream.base)
        self.at = Position(looked=looked, delivered=floor, floor=floor)
        if self.truncated_after is not None and floor <= self.truncated_after:
            self.truncated_after = None
        self._begin_anew()
        self.deliver()

    def recover(self, last_sequence: int) -> None:
        """Continue after the server's start from the position on disk, but not beyond the stream's end."""
        kept = self.kept
        floor = min(kept.floor, last_sequence)
        looked = max(floor, self._stream.base)
        self.at = Position(looked, floor, kept.deliveries, floor, kept.floor_deliveries)
        self._pulls.clear()
        self._begin_anew()

    def outlive(self, last_sequence: int) -> None:
        """Continue although the stream has lost what comes after `last_sequence`; the acknowledgements are kept.

        So does a consumer whose own replicas have more than the stream's new leader.
        """
        if self.at.floor > last_sequence:
            self.truncated_after = min(last_sequence, self.truncated_after or last_sequence)
            self.is_new_to = False
        looked = max(self.at.floor, self._stream.base)
        self.at = Position(looked, self.at.floor, self.at.deliveries, self.at.floor, self.at.floor_deliveries)
        self._pulls.clear()
        self._begin_anew()

    def go_back_for_a_new_process(self) -> None:
        """nats-server goes back, too, when it starts. It does so at last for a process that cannot know of the loss."""
        after, is_new, self.is_new_to = self.truncated_after, self.is_new_to, False
        if is_new and after is not None and self._stream.last > after:
            self.reset(after + 1)

    def _begin_anew(self) -> None:
        self._pending.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def write_down(self) -> None:
        self.kept = replace(self.at)

    def info(self) -> ConsumerInfo:
        return ConsumerInfo(
            name=self.name,
            stream_name=self._stream.name,
            config=self.config,
            created=EPOCH,
            delivered=SequenceInfo(self.at.deliveries, self.at.delivered),
            ack_floor=SequenceInfo(self.at.floor_deliveries, self.at.floor),
            num_ack_pending=len(self._pending),
            num_pending=self.outstanding - len(self._pending),
        )


class Reader(Consumer):
    """One without a durable name, which delivers all from a sequence on, and waits for no acknowledgement.

    It is gone with the server, and as soon as its client is: nats-server waits for its `inactive_threshold` first.
    """

    def __init__(self, config: ConsumerConfig, stream: "Stream", name: str, peer: Peer) -> None:
        super().__init__(config, stream, name)
        self.peer = peer
        self.at.looked = max(stream.base, (config.opt_start_seq or 1) - 1)

    def wants(self, message: Stored) -> bool:
        subjects = self.config.filter_subjects
        return bool(message.subject) and (not subjects or any(is_on(message.subject, one) for one in subjects))

    def _note(self, message: Stored, repeated: bool) -> None:
        """Nobody wants to read what it reads."""

    def deliver(self) -> None:
        while self._pulls and self.at.looked < self._stream.last:
            message = self._stream.at(self.at.looked + 1)
            self.at.looked += 1
            if self.wants(message):
                self.at.delivered = message.sequence
                self._hand_over(message)
                self._pending.clear()


class Stream:
    """A generation: the published messages in their order, and the ids inside the duplicate window."""

    def __init__(self, config: StreamConfig, created: datetime, lag_s: Callable[[], float]) -> None:
        """`lag_s` draws how much later than the stream a consumer has a message."""
        self.config = config
        self.name = str(config.name)
        self.number = number_of(self.name) or 0
        self.base = first_sequence(self.number) - 1
        self._lag_s = lag_s
        self.created = created
        self.messages: list[Stored] = []
        self.consumers: dict[str, Consumer] = {}
        self._seen: dict[str, tuple[float, int]] = {}
        """By id: when a message with it was stored, and its sequence."""
        self._loop = running()

    @property
    def last(self) -> int:
        """The last sequence."""
        return self.base + len(self.messages)

    def at(self, sequence: int) -> Stored:
        return self.messages[sequence - self.base - 1]

    def after(self, sequence: int) -> list[Stored]:
        return self.messages[max(0, sequence - self.base) :]

    def store(self, subject: str, body: bytes, head: bytes) -> tuple[int, bool]:
        """(sequence, whether it was there already): then it is that of the message with its id."""
        fact_id, now = header(head, _ID), self._loop.time()
        at, sequence = self._seen.get(fact_id, (-1e9, 0))
        if fact_id and now - at < (self.config.duplicate_window or 0):
            return sequence, True
        message = Stored(self.last + 1, subject, body, head, fact_id, now)
        self._seen[fact_id] = now, message.sequence
        self.messages.append(message)
        self._loop.note("{} has {}: {} of {}", self.name, message.sequence, message.name, fact_id[:18])
        for consumer in self.consumers.values():
            if consumer.wants(message):
                consumer.wake(self._lag_s())
        return message.sequence, False

    def lose_tail(self, messages: int) -> None:
        kept = len(self.messages) - messages
        self._loop.note("{} lost what it had behind {}", self.name, self.base + kept)
        for lost in self.messages[kept:]:
            self._seen.pop(lost.fact_id, None)
        del self.messages[kept:]
        for consumer in self.consumers.values():
            consumer.heard = min(consumer.heard, self.last)

    def lose(self, sequences: Collection[int]) -> None:
        """Leave holes at these sequences."""
        for sequence in sequences:
            lost = self.at(sequence)
            self._loop.note("{} lost {}: {} of {}", self.name, sequence, lost.name, lost.fact_id[:18])
            self._seen.pop(lost.fact_id, None)
            self.messages[sequence - self.base - 1] = Stored(sequence, "", b"", b"", "", lost.at)

    def info(self) -> StreamInfo:
        state = StreamState(
            len(self.messages) - len(self.holes),
            0,
            first_seq=self.base + 1,
            last_seq=self.last,
            consumer_count=len(self.consumers),
            num_deleted=len(self.holes) or None,
        )
        return StreamInfo(config=replace(self.config), state=state, created=self.created)

    @property
    def holes(self) -> list[int]:
        """The sequences that have no message."""
        return [message.sequence for message in self.messages if not message.subject]
