"""Reads and deletes a stream's messages. As anybody may have written them, neither headers nor body are parsed.

nats-py's `get_msg` parses a message's headers as an e-mail's. It returns objects in place of text that is not ASCII,
and raises RecursionError for nested parts.
"""

import asyncio
import base64
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import APIError, ServiceUnavailableError

from infra.broker.client import VERSION_LINE, BrokerClient, header, status
from infra.broker.connection import CONNECT_TIMEOUT_S
from infra.timestamps import microseconds

ANSWERED_BY: Final = "Nats-Stream"
"""The header of a direct get's answer with the name of the stream that answered: the one asked, or a mirror of it."""

NOT_THERE: Final = frozenset({10_043, 10_057})
"""nats-server's error codes for deleting a missing message: with status 400, or with 500 if the sequence was never used
or the stream is empty."""
NO_MESSAGE: Final = 10_037
"""nats-server's error code if the stream is there, but has no such message."""

ANSWER_S: Final = CONNECT_TIMEOUT_S  # until a direct get's first message, and between two of them

_SERVERS_OWN: Final = b"%b: " % ANSWERED_BY.encode()
"""The first header that the server adds, at the end, to a message that it answers directly."""
_NANOSECONDS: Final = re.compile(r"\.\d{6}(\d{1,3})")
_NO_HEADERS: Final = f"{VERSION_LINE}\r\n".encode()


class StoredMessage(NamedTuple):
    """A message of a stream. `raw_headers` is empty if it has none."""

    sequence: int
    subject: str
    body: bytes
    raw_headers: bytes
    stored_ns: int
    """When the broker stored it: nanoseconds since 1970 (UTC)."""

    @property
    def stored_us(self) -> int:
        return self.stored_ns // 1_000


class DirectAnswer(NamedTuple):
    """The messages that a direct get found, in the order of the answer, and the names of the streams they are from.

    `pending`: how many more there are after a batch. `code`: the server's status after the messages: 204; 404 if
    there are none; empty after a single message; 503 if no server answers; any other refuses the request.
    """

    messages: list[StoredMessage]
    answered_by: frozenset[str]
    pending: int
    code: str


class _Message(msgspec.Struct):
    seq: int
    subject: str
    time: str
    hdrs: str = ""
    data: str = ""


class _Answer(msgspec.Struct):
    message: _Message | None = None
    error: dict[str, Any] | None = None


class _State(msgspec.Struct):
    deleted: list[int] = []


class _Info(msgspec.Struct):
    state: _State = msgspec.field(default_factory=_State)
    error: dict[str, Any] | None = None


_answer: Final = msgspec.json.Decoder(_Answer)
_info: Final = msgspec.json.Decoder(_Info)


async def stored_message(nc: BrokerClient, stream: str, sequence: int) -> StoredMessage | None:
    """Ask the stream's leader for the message at this sequence; None without it.

    Raises NotFoundError without the stream; the client's errors.
    """
    return await _ask(nc, stream, {"seq": sequence})


async def next_message(nc: BrokerClient, stream: str, first: int, subject: str) -> StoredMessage | None:
    """Ask the leader for the first message on a subject, wildcards allowed, from sequence `first` on; None without it.

    Raises NotFoundError without the stream; the client's errors.
    """
    return await _ask(nc, stream, {"seq": first, "next_by_subj": subject})


async def last_message(nc: BrokerClient, stream: str, subject: str) -> StoredMessage | None:
    """Ask the leader for the last message on a subject, wildcards allowed; None without it.

    Raises NotFoundError without the stream; the client's errors.
    """
    return await _ask(nc, stream, {"last_by_subj": subject})


async def missing_sequences(nc: BrokerClient, stream: str) -> list[int]:
    """Ask the leader which sequences between the stream's first and last message have no message; return them, rising.

    Raises the client's errors.
    """
    info = _info.decode(await _request(nc, f"$JS.API.STREAM.INFO.{stream}", {"deleted_details": True}))
    if info.error is not None:
        APIError.from_error(info.error)
    return sorted(info.state.deleted)


async def _request(nc: BrokerClient, subject: str, wanted: dict[str, Any]) -> bytes:
    try:
        return (await nc.request(subject, msgspec.json.encode(wanted), timeout=CONNECT_TIMEOUT_S)).data
    except NoRespondersError:
        raise ServiceUnavailableError(code=503, description="no server answers for JetStream") from None


async def _ask(nc: BrokerClient, stream: str, wanted: dict[str, Any]) -> StoredMessage | None:
    answer = _answer.decode(await _request(nc, f"$JS.API.STREAM.MSG.GET.{stream}", wanted))
    if answer.error is not None:
        if answer.error.get("err_code") == NO_MESSAGE:
            return None
        APIError.from_error(answer.error)
    found = answer.message
    if found is None:
        return None
    body, raw_headers = base64.b64decode(found.data), base64.b64decode(found.hdrs)
    return StoredMessage(found.seq, found.subject, body, raw_headers, _nanoseconds(found.time))


async def direct(nc: BrokerClient, stream: str, request: Mapping[str, Any] | str) -> DirectAnswer:
    """Ask any server that has a copy of the stream for messages of it. `request` is as JetStream's API has it.

    A `request` that is a subject, wildcards allowed, asks for the last message there. One without `batch` asks for a
    single message. A copy may lag the leader, and a mirror may lack messages or have others: the caller must compare.
    Raises TimeoutError if ANSWER_S seconds pass without a message or the answer's end; the client's errors.
    """
    last_on = f".{request}" if isinstance(request, str) else ""
    body = b"" if isinstance(request, str) else msgspec.json.encode(request)
    single = isinstance(request, str) or "batch" not in request
    answers: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
    found: list[StoredMessage] = []
    streams: set[str] = set()
    inbox = nc.new_inbox()
    subscription = await nc.listen(inbox, lambda *answer: answers.put_nowait(answer[2:]))
    try:
        await nc.publish(f"$JS.API.DIRECT.GET.{stream}{last_on}", body, inbox)
        while True:
            async with asyncio.timeout(ANSWER_S):
                message, head = await answers.get()
            told = _direct(message, head)
            if told is None:
                pending = int(header(head, b"Nats-Num-Pending") or 0)
                return DirectAnswer(found, frozenset(streams), pending, status(head)[0])
            found.append(told[0])
            streams.add(told[1])
            if single:
                return DirectAnswer(found, frozenset(streams), 0, "")
    except TimeoutError:
        raise NatsTimeout from None
    finally:
        with suppress(NatsError):
            await nc.unlisten(subscription)


def _direct(body: bytes, head: bytes) -> tuple[StoredMessage, str] | None:
    """Return the message that a server answered directly, and the stream that it is in; None for the server's status.

    In `head`, the message's own headers come first, under any names; those of the server follow. If no empty line ends
    the message's own, the server's follow on the same line.
    """
    own, servers, added = head.rpartition(_SERVERS_OWN)
    if not servers:
        return None
    stream, *lines = added.decode(errors="backslashreplace").split("\r\n")
    values = dict(line.split(": ", 1) for line in lines if line)
    message = StoredMessage(
        int(values["Nats-Sequence"]),
        values["Nats-Subject"],
        body,
        b"" if own == _NO_HEADERS else own + b"\r\n",
        _nanoseconds(values["Nats-Time-Stamp"]),
    )
    return message, stream


def _nanoseconds(time: str) -> int:
    """Return the time that a server writes, in nanoseconds since 1970. It has up to nine digits after the point."""
    more = _NANOSECONDS.search(time)
    return 1_000 * microseconds(datetime.fromisoformat(time)) + (int(more[1].ljust(3, "0")) if more else 0)


async def delete_message(js: JetStreamContext, stream: str, sequence: int) -> None:
    """Delete the message at this sequence, if it is there. Raises the client's errors."""
    try:
        await js.delete_msg(stream, sequence)
    except APIError as error:
        if error.err_code not in NOT_THERE:
            raise
