"""nats-py's client with a direct path for the high-volume messages: deliveries, facts, acknowledgements.

In the library each message passes a task and a queue, and each header is validated and parsed. That takes half of a
service's CPU time. On the direct path a handler gets the bytes as they are read, and headers are sent as prepared text.
For that this class overrides one private method of the library and calls two. So the library's version is pinned, and
`tests/infra/broker/test_client.py` checks these methods.
"""

from collections.abc import Callable, Iterable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, MaxPayloadError

MessageCallback = Callable[[bytes, bytes, bytes, bytes], None]
"""Gets subject, reply subject, body and raw headers; reply subject and headers may be empty. Must not block."""

Outgoing = tuple[str, bytes, str, str]
"""Subject, body, reply subject (empty: none), and raw headers."""

VERSION_LINE: Final = "NATS/1.0"


class BrokerClient(Client):
    """`raw_headers` are a message's headers as they travel: version line, one line each, and an empty line."""

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, MessageCallback] = {}

    async def listen(self, subject: str, handler: MessageCallback) -> Subscription:
        """Call the handler with each message from now on, in order, before the next one is read.

        Nothing is queued, so nothing is dropped. An exception of the handler goes to the client's `error_cb`.
        """
        subscription = await self.subscribe(subject, cb=_unused)
        self._handlers[subscription._id] = handler
        return subscription

    async def send(self, subject: str, body: bytes, reply: str, raw_headers: str) -> None:
        """Publish one message. Raises ConnectionClosedError, MaxPayloadError."""
        await self.send_all([(subject, body, reply, raw_headers)])

    async def send_all(self, messages: Iterable[Outgoing]) -> None:
        """Publish all messages in this order with one write, or none. Raises the errors of `send`."""
        if not self.is_connected:
            raise ConnectionClosedError
        lines: list[bytes] = []
        for subject, body, reply, raw_headers in messages:
            if len(body) > self.max_payload:
                raise MaxPayloadError
            headers = raw_headers.encode()
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
        except Exception as error:  # an exception that left this method would silently end the client's reading
            await self._error_cb(error)


async def _unused(_: Msg) -> None:
    """The library requires a callback for a subscription that is not iterated; the handler gets its messages."""


def header(raw_headers: bytes, name: bytes) -> str:
    """The value of this header; empty if it is missing. Never raises, because any publisher may have sent it."""
    _, found, rest = raw_headers.partition(b"\r\n%b: " % name)
    return rest.partition(b"\r\n")[0].decode(errors="replace") if found else ""


def status(raw_headers: bytes) -> tuple[str, str]:
    """Code and description of a status message from the server; both are empty for any other message."""
    code, _, description = raw_headers.partition(b"\r\n")[0].removeprefix(VERSION_LINE.encode()).strip().partition(b" ")
    return code.decode(), description.decode()
