"""Asks the leader of a generation what the stream has: relays, consumers, read models and audits go on from the answer.

The server lets every mirror of a stream answer direct gets in the stream's place, also a mirror that has only some
subjects, lags, or outlived the stream that it was made from. A follower of a cluster may lag, too. So the answer to a
direct get counts only if it must be what the leader has, held against the leader's stream info; otherwise the leader
itself is asked.
"""

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from contracts.origin import ForeignMessage, origin
from contracts.wire import MSG_ID, RESENT
from infra.broker.acknowledged import digest
from infra.broker.client import BrokerClient, header
from infra.broker.errors import LeaderUnavailable
from infra.broker.numbering import EVENTS, first_sequence, number_of
from infra.broker.stored import (
    StoredMessage,
    direct,
    last_message,
    missing_sequences,
    next_message,
    stored_message,
)
from infra.timestamps import microseconds

FIRST_SPAN: Final = 1_024  # sequences of the first step backwards; each further step doubles it
SPAN_FORWARDS: Final = 8_192  # sequences of each step forwards
BATCH: Final = 1_024  # messages that one direct get asks for
TRIES: Final = 8  # times a span is read by direct gets, if another stream answers; then the leader is asked

_MSG_ID: Final = MSG_ID.encode()
_RESENT: Final = RESENT.encode()

_NONE: Final[Mapping[int, str]] = MappingProxyType({})

T = TypeVar("T")


class Published(NamedTuple):
    """A fact as the stream has it: its position in its service's log, its id, its body, its sequence in the stream.

    `resent`: the stream had lost it, and had later facts of its service when it was published again.
    """

    position: int
    fact_id: str
    body: bytes
    sequence: int
    resent: bool


class _NotTheLeader(Exception):
    """A direct get was answered by another stream, with fewer messages than it must have, or not in time."""


class Leader:
    """What one generation of the stream has, as its leader says.

    Each method that asks may raise LeaderUnavailable and the client's errors, NotFoundError if the stream is gone.
    """

    def __init__(
        self,
        nc: BrokerClient,
        info: StreamInfo,
        *,
        first_span: int = FIRST_SPAN,
        batch: int = BATCH,
        foreign: Mapping[int, str] = _NONE,
    ) -> None:
        """`info` is the leader's own answer about the stream, from this connection.

        Reading back or on begins with `first_span` sequences; `batch` is the most messages of one direct get.
        `foreign`: by sequence, the digests of the messages that a person has acknowledged as foreign.
        """
        self._foreign = foreign
        self._nc = nc
        self._info = info
        self.name = str(info.config.name)
        self._first_span = first_span
        self._batch = batch

    @property
    def number(self) -> int:
        """Which generation it is."""
        return number_of(self.name) or 0

    @property
    def first_sequence(self) -> int:
        """The sequence of the first message that the stream ever took, or will take."""
        return first_sequence(self.number)

    @property
    def last_sequence(self) -> int:
        """The stream's last sequence when its info was asked for."""
        return self._info.state.last_seq

    async def last(self, subject: str) -> StoredMessage | None:
        """Return the last message on this subject, which may have wildcards; None if there is none."""
        found = await self._direct(subject)
        if found is not None and (self._info.config.num_replicas or 1) == 1:  # a follower may lag
            return found
        return await _answered(self.name, last_message(self._nc, self.name, subject))

    async def next(self, sequence: int, subject: str) -> StoredMessage | None:
        """Return the first message on a subject, wildcards allowed, at or after `sequence`; None if there is none."""
        found = await self._direct({"seq": sequence, "next_by_subj": subject})
        return found or await _answered(self.name, next_message(self._nc, self.name, sequence, subject))

    async def at(self, sequence: int) -> StoredMessage | None:
        """Return the message with this sequence; None if there is none."""
        found = await self._direct({"seq": sequence})
        return found or await _answered(self.name, stored_message(self._nc, self.name, sequence))

    async def _direct(self, request: Mapping[str, Any] | str) -> StoredMessage | None:
        """Make a direct get of one message; None if there is none, or it may be a mirror's or an earlier stream's.

        Raises TimeoutError, the client's errors.
        """
        answer = await direct(self._nc, self.name, request)
        if answer.answered_by != {self.name}:
            return None
        (found,) = answer.messages
        created = self._info.created
        since = 0 if created is None else microseconds(created)
        return found if found.sequence <= self._info.state.last_seq and found.stored_us >= since else None

    async def holes(self) -> list[tuple[int, int]]:
        """Return the stretches of sequences that have no message, each as its first and last, in rising order.

        Nothing is ever deleted from the stream, so the broker has lost what was there. Sequences before the stream's
        first message count, those after its last do not. A stream without messages has no holes.
        """
        state = self._info.state
        missing = (
            await _answered(self.name, missing_sequences(self._nc, self.name), "INFO") if state.num_deleted else []
        )
        first = self.first_sequence
        holes = [(first, state.first_seq - 1)] if state.messages and state.first_seq > first else []
        for sequence in missing:
            if holes and holes[-1][1] == sequence - 1:
                holes[-1] = (holes[-1][0], sequence)
            else:
                holes.append((sequence, sequence))
        return holes

    # Forwards and backwards -------------------------------------------------------------------------------------------

    async def read_on(self, subject: str, begin: int) -> AsyncIterator[list[Published]]:
        """Yield the facts on this subject from the sequence `begin` to the stream's end, in lists in stream order.

        It leaves out what `read_back` does, so a list may be empty.
        """
        last = await self.last(subject)
        newest, span = (0 if last is None else last.sequence), self._first_span
        while begin <= newest:
            end = min(newest, begin + span - 1)
            yield await self._between(subject, begin, end)
            begin, span = end + 1, min(2 * span, SPAN_FORWARDS)

    async def read_back(self, subject: str, end: int | None = None) -> AsyncIterator[list[Published]]:
        """Yield the facts on this subject from the sequence `end`, included, back to the stream's beginning, in lists.

        Each list has the facts of a span of sequences, in stream order. The next list's span is before it, and at most
        twice as long. Without an `end`: from the stream's end. Foreign messages and those that a person acknowledged as
        foreign are left out, so a list may be empty.
        """
        last, first = await self.last(subject), self.first_sequence
        newest = 0 if last is None else last.sequence
        end, span = newest if end is None else min(end, newest), self._first_span
        while end >= first:
            begin = max(first, end - span + 1)
            yield await self._between(subject, begin, end)
            end, span = begin - 1, 2 * span

    async def _between(self, subject: str, begin: int, end: int) -> list[Published]:
        """Return the facts on this subject with sequences from `begin` to `end`, both included, in stream order."""
        for _ in range(TRIES):
            with suppress(_NotTheLeader):
                return await self._by_direct_gets(subject, begin, end)
        found: list[Published] = []
        while begin <= end and (message := await self.next(begin, subject)) is not None:
            begin = message.sequence + 1
            if message.sequence <= end:
                found += self._published(message)
        return found

    def _published(self, message: StoredMessage) -> list[Published]:
        """Return the fact in a message; nothing if it is foreign, or a person has acknowledged it as foreign."""
        known = self._foreign.get(message.sequence)
        if known and known == digest(message.subject, message.raw_headers, message.body, message.stored_ns):
            return []
        return published(message)

    async def _by_direct_gets(self, subject: str, begin: int, end: int) -> list[Published]:
        """Return what `_between` does.

        Raises _NotTheLeader if an answer is another stream's, incomplete or empty, or does not come in time.
        """
        found: list[Published] = []
        while begin <= end:
            try:
                wanted = {"seq": begin, "next_by_subj": subject, "batch": self._batch}
                answer = await direct(self._nc, self.name, wanted)
            except TimeoutError:
                raise _NotTheLeader from None
            if answer.answered_by != {self.name} or answer.code != "204":
                raise _NotTheLeader
            for message in answer.messages:
                begin = message.sequence + 1
                if message.sequence <= end:
                    found += self._published(message)
            if not answer.pending and begin <= end:
                raise _NotTheLeader  # it ends before the last message of the subject: a replica that lags
        return found


def published(message: StoredMessage) -> list[Published]:
    """Return the fact in a message; nothing if the message is foreign."""
    message_id = header(message.raw_headers, _MSG_ID)
    try:
        position = origin(message.subject, message_id, message.raw_headers, message.body).position
    except ForeignMessage:
        return []
    resent = bool(header(message.raw_headers, _RESENT))
    return [Published(position, message_id, message.body, message.sequence, resent)]


async def _answered(stream: str, asked: Awaitable[T], api: str = "MSG.GET") -> T:
    """Return the leader's answer. Raises LeaderUnavailable if none comes in time; the client's errors."""
    try:
        return await asked
    except NatsTimeout as error:
        raise LeaderUnavailable(
            f"the leader of {stream} did not answer $JS.API.STREAM.{api}.{stream} in time: either it is away, or "
            "the broker's user may not publish there, which is needed where mirrors answer or replicas may lag"
        ) from error


async def leader_of(nc: BrokerClient, js: JetStreamContext, stream: str = EVENTS) -> Leader:
    """Return a Leader for this stream, made from the stream's info, which this asks for. Raises the client's errors."""
    return Leader(nc, await js.stream_info(stream))
