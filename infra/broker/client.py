"""nats-py's client with a direct path for the many messages: deliveries, facts, the broker's answers to facts.

In the library each message passes a task and a queue, and each header is validated and parsed. That takes half of a
service's CPU time. On the direct path a handler gets the bytes as they are read, and headers are sent as prepared text.
For that this class overrides private methods of the library, and uses others. So the library's version is pinned,
and `tests/infra/broker/test_client.py` tests this class on a real broker.
"""

import contextlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import BadSubscriptionError, ConnectionClosedError, MaxPayloadError
from nats.protocol import parser

from contracts import origin
from infra.broker.errors import BrokerMisconfigured

MessageCallback = Callable[[bytes, bytes, bytes, bytes], None]
"""Gets subject, reply subject, body and raw headers; reply subject and headers may be empty. Must not block."""

Outgoing = tuple[str, bytes, str, str]
"""Subject, body, reply subject (empty: none), and raw headers (see BrokerClient; never empty)."""

VERSION_LINE: Final = "NATS/1.0"

# The library splits a message's line at any white space. A subject may contain some, such as a vertical tab: the client
# would then close every connection on which the message comes. The server separates by spaces alone.
parser.MSG_RE = re.compile(rb"\AMSG +([^ \t\r\n]+) +(\d+) +(([^ \t\r\n]+) +)?(\d+)\r\n")
parser.HMSG_RE = re.compile(rb"\AHMSG +([^ \t\r\n]+) +(\d+) +(([^ \t\r\n]+) +)?(\d+) +(\d+)\r\n")

header: Final = origin.header


class BrokerClient(Client):
    """The library's client, with `listen`, `send` and `send_all` as the direct path.

    `raw_headers` are a message's headers as they travel: the version line, one line for each header, and an empty line.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, MessageCallback] = {}
        self.needs_tls = False
        """Set before `connect`: without TLS it raises BrokerMisconfigured, and sends nothing, above all no password."""
        self.denied: list[str] = []
        """What the broker has denied the user on this connection, such as `publish to $js.ack.…`; see `connect`."""

    async def listen(self, subject: str, handler: MessageCallback) -> Subscription:
        """Subscribe: call the handler with each message from now on, in order, before the client reads the next one.

        Nothing is queued, so nothing is dropped. An exception of the handler goes to the client's `error_cb`. Returns
        the subscription, for `unlisten`. Raises the client's errors.
        """
        subscription = await self.subscribe(subject, cb=_unused)
        self._handlers[subscription._id] = handler
        return subscription

    async def unlisten(self, subscription: Subscription) -> None:
        """End what `listen` began: the handler gets nothing more. No effect once the connection is closed."""
        self._handlers.pop(subscription._id, None)
        with contextlib.suppress(ConnectionClosedError, BadSubscriptionError):
            await subscription.unsubscribe()

    async def send(self, subject: str, body: bytes, reply: str, raw_headers: str) -> None:
        """Publish one message without waiting for the server.

        Raises ConnectionClosedError without a connection, and MaxPayloadError if headers and body are above the
        server's limit.
        """
        await self.send_all([(subject, body, reply, raw_headers)])

    async def send_all(self, messages: Iterable[Outgoing]) -> None:
        """Publish all messages in this order with one write, without waiting for the server.

        Raises the errors of `send`; then none of them was published.
        """
        if not self.is_connected:
            raise ConnectionClosedError
        lines: list[bytes] = []
        for subject, body, reply, raw_headers in messages:
            headers = raw_headers.encode()
            if len(headers) + len(body) > self.max_payload:
                raise MaxPayloadError
            line = f"HPUB {subject} {reply} {len(headers)} {len(headers) + len(body)}\r\n"
            lines += (line.encode(), headers, body, b"\r\n")
        await self._send_command(b"".join(lines))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Look at the server's greeting before anything is sent. The library goes on in plaintext without TLS there."""
        if initial_connection and self.needs_tls:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise BrokerMisconfigured(
                    "the server offers no TLS, and NATS_URL says tls://; nothing was sent to it. Configure TLS there, "
                    "or write nats:// if the network may read everything, passwords included"
                )
            info["tls_required"] = True  # the library uses TLS if the server requires it, not if it just offers it
        await super()._process_info(info, initial_connection)

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
    """Do nothing: it is the callback of a subscription whose messages a handler of `listen` gets instead."""


def status(raw_headers: bytes) -> tuple[str, str]:
    """Return code and description of a status message from the server, such as "404"; ("", "") for other messages."""
    code, _, description = raw_headers.partition(b"\r\n")[0].removeprefix(VERSION_LINE.encode()).strip().partition(b" ")
    return code.decode(), description.decode()
