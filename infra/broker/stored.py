"""Reads messages that a stream has stored, as bytes: anybody may have written them, so nothing in them is parsed.

nats-py's `get_msg` parses a message's headers as an e-mail's. It returns objects in place of text that is not ASCII,
and raises RecursionError for nested parts.
"""

import asyncio
import base64
from typing import Any, Final, NamedTuple

import msgspec
from nats.errors import NoRespondersError
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from infra.broker.client import BrokerClient, status
from infra.broker.connection import CONNECT_TIMEOUT_S

BATCH: Final = 1_000  # messages
BATCH_BYTES: Final = 8 << 20

_SERVERS_OWN: Final = b"\r\nNats-Stream: "
"""The first header that the server adds, at the end, to a message that it answers directly."""


class StoredMessage(NamedTuple):
    """A message of a stream. `raw_headers` begins with NATS's version line; it is empty without headers."""

    sequence: int
    subject: str
    body: bytes
    raw_headers: bytes


class _Message(msgspec.Struct):
    seq: int
    subject: str
    hdrs: str = ""
    data: str = ""


class _Answer(msgspec.Struct):
    message: _Message | None = None
    error: dict[str, Any] | None = None


_answer: Final = msgspec.json.Decoder(_Answer)


async def stored_message(nc: BrokerClient, stream: str, sequence: int) -> StoredMessage | None:
    """Ask the stream's leader for the message at this sequence; None without it. Raises the client's errors."""
    return await _ask(nc, stream, {"seq": sequence})


async def next_message(nc: BrokerClient, stream: str, first: int, subject: str) -> StoredMessage | None:
    """Ask the leader for the first message on a subject, wildcards allowed, from sequence `first` on; None without it.

    Raises the client's errors.
    """
    return await _ask(nc, stream, {"seq": first, "next_by_subj": subject})


async def last_message(nc: BrokerClient, stream: str, subject: str) -> StoredMessage | None:
    """Ask the leader for the last message on a subject, wildcards allowed; None without it.

    Raises the client's errors.
    """
    return await _ask(nc, stream, {"last_by_subj": subject})


async def _ask(nc: BrokerClient, stream: str, wanted: dict[str, Any]) -> StoredMessage | None:
    try:
        answered = await nc.request(
            f"$JS.API.STREAM.MSG.GET.{stream}", msgspec.json.encode(wanted), timeout=CONNECT_TIMEOUT_S
        )
    except NoRespondersError:
        raise ServiceUnavailableError(code=503, description="no server answers for JetStream") from None
    answer = _answer.decode(answered.data)
    if answer.error is not None:
        try:
            APIError.from_error(answer.error)
        except NotFoundError:
            return None
    found = answer.message
    if found is None:
        return None
    return StoredMessage(found.seq, found.subject, base64.b64decode(found.data), base64.b64decode(found.hdrs))


async def direct_batch(nc: BrokerClient, stream: str, first: int, subject: str) -> list[StoredMessage]:
    """Ask any server that has a copy for the next messages on a subject, from sequence `first` on, in their order.

    A copy may lag the leader, and a mirror may lack messages: the caller must compare. At most BATCH messages, and not
    many more bytes than BATCH_BYTES. Empty if there are none, the stream does not allow direct gets, or nobody answers
    in time. Raises the client's errors.
    """
    found: list[StoredMessage] = []
    end = asyncio.Event()

    def take(_: bytes, __: bytes, body: bytes, head: bytes) -> None:
        message = _direct(body, head)
        if message is not None:
            found.append(message)
        elif status(head)[0]:
            end.set()

    inbox = nc.new_inbox()
    subscription = await nc.listen(inbox, take)
    try:
        wanted = {"seq": first, "next_by_subj": subject, "batch": BATCH, "max_bytes": BATCH_BYTES}
        await nc.publish(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(wanted), inbox)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await end.wait()
    except TimeoutError:
        return []
    finally:
        await nc.unlisten(subscription)
    return found


def _direct(body: bytes, head: bytes) -> StoredMessage | None:
    """Return the message that a server answered directly; None for its status. The message's own headers come first."""
    own, servers, added = head.rpartition(_SERVERS_OWN)
    lines = dict(line.split(b": ", 1) for line in added.split(b"\r\n")[1:] if b": " in line)
    if not servers or b"Nats-Sequence" not in lines or b"Nats-Subject" not in lines:
        return None
    name = lines[b"Nats-Subject"].decode(errors="backslashreplace")
    return StoredMessage(int(lines[b"Nats-Sequence"]), name, body, b"%b\r\n\r\n" % own if b"\r\n" in own else b"")
