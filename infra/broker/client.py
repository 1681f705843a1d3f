"""nats-py's client, with a short way for what comes and goes by the thousand: deliveries, facts, acknowledgements.

By the library's own way each message passes a task and a queue, and its headers are checked and taken apart one by one:
half of a service's time. On the short way a handler gets the bytes as they are read, and headers are sent as they are
written. For that it overrides one method that the library keeps to itself and calls two, so the library's version is
pinned, and `tests/infra/broker/test_client.py` holds what is relied on.
"""

from collections.abc import Callable, Iterable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, MaxPayloadError

MessageCallback = Callable[[bytes, bytes, bytes, bytes], None]
"""Gets subject, reply subject (empty: none), body, and the head: headers as they travel, or empty. Must not block."""

Outgoing = tuple[str, bytes, str, str]
"""Subject, body, reply subject (empty: none), and the head: all headers as they travel."""

VERSION_LINE: Final = "NATS/1.0"


class BrokerClient(Client):
    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, MessageCallback] = {}

    async def listen(self, subject: str, handler: MessageCallback) -> Subscription:
        """Call the handler with each message from now on, in order, before the next one is read.

        Nothing is queued, so nothing is dropped; what the handler raises goes to the client's `error_cb`.
        """
        subscription = await self.subscribe(subject, cb=_unused)
        self._handlers[subscription._id] = handler
        return subscription

    async def send(self, subject: str, body: bytes, reply: str, head: str) -> None:
        """Publish; `head` is all of the headers as they travel. Raises ConnectionClosedError, MaxPayloadError."""
        await self.send_all([(subject, body, reply, head)])

    async def send_all(self, messages: Iterable[Outgoing]) -> None:
        """Publish them in this order, in one go; raises what `send` does, and then none of them was sent."""
        if not self.is_connected:
            raise ConnectionClosedError
        lines: list[bytes] = []
        for subject, body, reply, head in messages:
            if len(body) > self.max_payload:
                raise MaxPayloadError
            headers = head.encode()
            line = f"HPUB {subject} {reply} {len(headers)} {len(headers) + len(body)}\r\n"
            lines += (line.encode(), headers, body, b"\r\n")
        await self._send_command(b"".join(lines))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        handler = self._handlers.get(sid)
        if handler is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        try:
            handler(subject, reply, data, headers or b"")
        except Exception as error:  # anything that got out of here would end the client's reading without a word
            await self._error_cb(error)


async def _unused(_: Msg) -> None:
    """A subscription needs a callback to be one that nobody waits for; its messages go to the handler."""


def header(head: bytes, name: bytes) -> str:
    """The value of this header; empty if it is missing, and never an error: anybody may have sent it."""
    _, found, rest = head.partition(b"\r\n%b: " % name)
    return rest.partition(b"\r\n")[0].decode(errors="replace") if found else ""


def status(head: bytes) -> tuple[str, str]:
    """Code and description of a message that is a status of the server's; both empty for any other."""
    code, _, description = head.partition(b"\r\n")[0].removeprefix(VERSION_LINE.encode()).strip().partition(b" ")
    return code.decode(), description.decode()
