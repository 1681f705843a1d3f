"""Asks the leader of EVENTS what the stream has: relays, consumers, read models and audits go on from the answer.

The server lets every mirror of a stream answer direct gets in the stream's place, also a mirror that has only some
subjects, lags, or outlived the stream that it was made from. A follower of a cluster may lag, too. So the answer to a
direct get counts only if it must be the leader's own, held against the leader's stream info; otherwise the leader
itself is asked.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg, StreamInfo
from nats.js.errors import NotFoundError

from contracts.origin import number
from contracts.wire import FACTS, MSG_ID, POSITION, STREAM, VERSION, fact_id, subject
from infra.broker.client import BrokerClient, header, status
from infra.broker.errors import LeaderUnavailable
from infra.broker.streams import EVENTS

ANSWERED_BY: Final = "Nats-Stream"
"""The header of a direct get's answer with the name of the stream that answered: EVENTS, or a mirror's name."""

FIRST_SPAN: Final = 1_024  # sequences of the first step backwards; each further step doubles it
BATCH: Final = 1_024  # messages that one direct get asks for
TRIES: Final = 8  # direct gets of one batch, if others than EVENTS answer; then the leader is asked, one by one
ANSWER_S: Final = 2.0  # between two messages of a direct get's answer


class Published(NamedTuple):
    """A fact as the stream has it: its position in its service's log, its id, its body, its sequence in the stream."""

    position: int
    fact_id: str
    body: bytes
    sequence: int


_About = tuple[str, ...]
"""The values of the four headers of a fact, in the order of _NAMES; empty where a header is missing."""

_NAMES: Final = (MSG_ID.encode(), STREAM.encode(), VERSION.encode(), POSITION.encode())


class _NotTheLeader(Exception):
    """A direct get was answered by another stream, or with fewer messages than it must have."""


class Leader:
    """What EVENTS has, as its leader says. Every method raises LeaderUnavailable, or the client's errors."""

    def __init__(
        self,
        nc: BrokerClient,
        js: JetStreamContext,
        info: StreamInfo,
        *,
        first_span: int = FIRST_SPAN,
        batch: int = BATCH,
    ) -> None:
        """`info` is the leader's own answer about EVENTS, from this connection.

        Reading back begins with `first_span` sequences; `batch` is the most messages that one direct get asks for.
        """
        self._nc = nc
        self._js = js
        self._info = info
        self._first_span = first_span
        self._batch = batch

    async def last(self, subject: str) -> RawStreamMsg | None:
        """Return the last message on this subject, which may have wildcards; None if there is none."""
        try:
            found = await self._js.get_last_msg(EVENTS, subject, direct=True)
            if self._holds(found) and (self._info.config.num_replicas or 1) == 1:  # a follower may lag
                return found
        except NotFoundError:
            pass
        return await self._ask(subject=subject)

    async def next(self, sequence: int, subject: str) -> RawStreamMsg | None:
        """Return the first message on this subject from `sequence` on; None if there is none."""
        try:
            found = await self._js.get_msg(EVENTS, sequence, subject, direct=True, next=True)
            if self._holds(found):
                return found
        except NotFoundError:
            pass
        return await self._ask(sequence, subject)

    async def at(self, sequence: int) -> RawStreamMsg | None:
        """Return the message with this sequence; None if there is none."""
        try:
            found = await self._js.get_msg(EVENTS, sequence, direct=True)
            if self._holds(found):
                return found
        except NotFoundError:
            pass
        return await self._ask(sequence)

    def _holds(self, found: RawStreamMsg) -> bool:
        """Whether a direct get's answer is what the leader has: from no mirror, and from no earlier stream."""
        created, last = self._info.created, self._info.state.last_seq
        return (
            (found.headers or {}).get(ANSWERED_BY) == EVENTS
            and (found.seq or 0) <= last
            and (created is None or (found.time is not None and found.time >= created))
        )

    async def _ask(self, sequence: int | None = None, subject: str | None = None) -> RawStreamMsg | None:
        """Ask the leader itself: the message at a sequence, the last one on a subject, or the next one there."""
        try:
            return await self._js.get_msg(EVENTS, sequence, subject, next=sequence is not None and subject is not None)
        except NotFoundError:
            return None
        except NatsTimeout as error:
            raise LeaderUnavailable(
                f"the leader of {EVENTS} did not answer $JS.API.STREAM.MSG.GET.{EVENTS} in time: either it is away, or "
                "the broker's user may not publish there, which is needed where mirrors answer or replicas may lag"
            ) from error

    # Backwards --------------------------------------------------------------------------------------------------------

    async def read_back(self, subject: str) -> AsyncIterator[list[Published]]:
        """Yield the facts on this subject from the stream's end to its beginning, in lists in stream order.

        Each list has a part of the stream twice as long as the one before it. Messages of other publishers, known by
        what a relay's messages have and they lack, are left out, so a list may be empty.
        """
        last = await self.last(subject)
        newest = end = 0 if last is None else last.seq or 0
        span = self._first_span
        while end > 0:
            begin = max(1, end - span + 1)
            yield await self._between(subject, begin, end, newest)
            end, span = begin - 1, 2 * span

    async def _between(self, subject: str, begin: int, end: int, newest: int) -> list[Published]:
        """Return the facts on this subject with sequences from `begin` to `end`, both included, in stream order.

        `newest` is the sequence of the last message on this subject.
        """
        for _ in range(TRIES):
            with suppress(_NotTheLeader):
                return await self._by_direct_gets(subject, begin, end, newest)
        found: list[Published] = []
        while begin <= end and (message := await self.next(begin, subject)) is not None:
            sequence, headers = message.seq or end, message.headers or {}
            begin = sequence + 1
            if sequence <= end:
                about = tuple(headers.get(name.decode(), "") for name in _NAMES)
                found += _published(sequence, message.subject or "", message.data or b"", about)
        return found

    async def _by_direct_gets(self, subject: str, begin: int, end: int, newest: int) -> list[Published]:
        found: list[Published] = []
        while begin <= end:
            messages, more = await self._direct_get(subject, begin)
            for raw_headers, body in messages:
                sequence = int(_of_the_server(raw_headers, b"Nats-Sequence"))
                if _of_the_server(raw_headers, ANSWERED_BY.encode()) != EVENTS:
                    raise _NotTheLeader
                begin = sequence + 1
                if sequence <= end:
                    about = tuple(header(raw_headers, name) for name in _NAMES)
                    found += _published(sequence, _of_the_server(raw_headers, b"Nats-Subject"), body, about)
            if not more:
                if begin <= newest:
                    raise _NotTheLeader  # a follower that lags
                break
        return found

    async def _direct_get(self, subject: str, begin: int) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Return raw headers and bodies of the next messages on this subject, one batch, and whether more follow.

        Raises _NotTheLeader if the answer is incomplete or empty.
        """
        answers: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
        inbox = self._nc.new_inbox()
        subscription = await self._nc.listen(inbox, lambda *message: answers.put_nowait((message[3], message[2])))
        request = msgspec.json.encode({"seq": begin, "next_by_subj": subject, "batch": self._batch})
        messages: list[tuple[bytes, bytes]] = []
        try:
            await self._nc.publish(f"$JS.API.DIRECT.GET.{EVENTS}", request, inbox)
            while True:
                async with asyncio.timeout(ANSWER_S):
                    raw_headers, body = await answers.get()
                code, _ = status(raw_headers)
                if code == "204" and messages:
                    return messages, header(raw_headers, b"Nats-Num-Pending") != "0"
                if code:
                    raise _NotTheLeader
                messages.append((raw_headers, body))
        except TimeoutError:
            raise _NotTheLeader from None
        finally:
            with suppress(NatsError):
                await self._nc.unlisten(subscription)


def _published(sequence: int, published_on: str, body: bytes, about: _About) -> list[Published]:
    """Return the fact in a message with this subject, body and headers; nothing if a relay did not write it."""
    named, stream, version, position = about[0], about[1], number(about[2]), number(about[3])
    if not (version and position) or named != fact_id(stream, version):
        return []
    name = published_on.rpartition(".")[0]
    try:
        if name in FACTS and subject(name, body) != published_on:
            return []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return [Published(position, named, body, sequence)]


def _of_the_server(raw_headers: bytes, name: bytes) -> str:
    """Return a header that the server added to its answer. It comes last: the message may have one of that name."""
    return raw_headers.rpartition(b"\r\n%b: " % name)[2].partition(b"\r\n")[0].decode(errors="replace")


async def leader_of(nc: BrokerClient, js: JetStreamContext) -> Leader:
    """Ask for the stream's info, and return what answers the rest. Raises the client's errors."""
    return Leader(nc, js, await js.stream_info(EVENTS))
