"""nats-py's client with a direct path for the many messages: deliveries, facts, the broker's answers to facts.

In the library each message passes a task and a queue, each header is validated and parsed, and another task writes what
is published. That takes half of a service's CPU time. On the direct path a handler gets the bytes as they are read,
headers are sent as prepared text, and what is published is written at once. For that this class overrides private
methods of the library, and uses others. So the library's version is pinned, and `tests/infra/broker/test_client.py`
tests this class on a real broker.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import BadSubscriptionError, ConnectionClosedError, Error, MaxPayloadError
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


class TransportClosed(ConnectionClosedError, RuntimeError):
    """The connection's transport is closed, which the client has not noticed yet; nothing was sent.

    Replaces uvloop's RuntimeError. It is one, too: the library's own tasks end by that. Callers expect the other base.
    """


class MessageParser(parser.Parser):
    """The library's parser, but faster: it hands a message over in one piece, as soon as all its bytes are read.

    The client's `_process_err` gets the server's text as it was written; the library lower-cases it.
    """

    async def parse(self, data: bytes = b"") -> None:
        """Hand each whole message to the client's `_process_msg`, errors to `_process_err`, all else to the library."""
        if self.state == parser.AWAITING_MSG_PAYLOAD:
            await super().parse(data)
            return
        if self.buf:
            data = bytes(self.buf) + data
            self.buf.clear()
        at = 0
        try:
            while (line_end := data.find(b"\r\n", at)) > 0:
                line = _message_line(data[at:line_end])
                if line is None:
                    begin, at = at, line_end + 2
                    await self._parse_other(data[begin:at])
                    if self.buf or self.state == parser.AWAITING_MSG_PAYLOAD:
                        break
                    continue
                sid, subject, reply, header_bytes, all_bytes = line
                head = line_end + 2
                body, end = head + header_bytes, head + all_bytes
                if len(data) < end + 2:
                    return  # the rest of it has not come
                at = end + 2
                await self.nc._process_msg(sid, subject, reply, data[body:end], data[head:body])
        finally:
            self.buf += data[at:]
        if self.buf:
            await super().parse()

    async def _parse_other(self, line: bytes) -> None:
        """Take a line that `_message_line` cannot read: errors go to the client's `_process_err`, else to `super`."""
        if (error := parser.ERR_RE.match(line)) is not None:
            await self.nc._process_err((error[1] or b"").decode(errors="backslashreplace"))
        else:
            await super().parse(line)


def _message_line(line: bytes) -> tuple[int, bytes, bytes, int, int] | None:
    """Return what the line before a message says: sid, subject, reply subject, size of headers, size of all (bytes).

    `all`: headers and body. None: the line begins no message, or is not written as the server does it.
    """
    kind, *words = line.split(b" ")
    if kind == b"MSG":
        words.insert(-1, b"0")
    elif kind != b"HMSG":
        return None
    if len(words) == 4:
        words.insert(2, b"")
    elif len(words) != 5:
        return None
    subject, sid, reply, header_bytes, all_bytes = words
    if not (sid.isdigit() and header_bytes.isdigit() and all_bytes.isdigit()):
        return None
    return int(sid), subject, reply, int(header_bytes), int(all_bytes)


class BrokerClient(Client):
    """The library's client, with `listen`, `send` and `send_all` as the direct path.

    `raw_headers` are a message's headers as they travel: the version line, one line for each header, and an empty line.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = MessageParser(self)
        self._handlers: dict[int, MessageCallback] = {}
        self.needs_tls = False
        """Set it before `connect`. If it is true and the server offers no TLS, `connect` raises BrokerMisconfigured and
        sends nothing, above all no password."""
        self.denied: list[str] = []
        """What the broker has denied the user on this connection, such as `publish to $JS.ACK.…`, each thing once.

        The caller of `connect` fills it, from what its `error_cb` gets."""

    async def listen(self, subject: str, handler: MessageCallback) -> Subscription:
        """Subscribe: call the handler with each message from now on, in order, before the client reads the next one.

        The client queues nothing, so it drops nothing. An exception of the handler goes to the client's `error_cb`.
        Returns the subscription, for `unlisten`. Raises the client's errors.
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
        """Publish one message, as `send_all` does.

        Raises ConnectionClosedError if there is no connection or it is lost meanwhile, and MaxPayloadError if headers
        and body are above the server's limit.
        """
        await self.send_all([(subject, body, reply, raw_headers)])

    async def send_all(self, messages: Iterable[Outgoing]) -> None:
        """Publish all messages in this order with one write. Waits only while the server does not take the bytes.

        Raises the errors of `send`; after MaxPayloadError none of the messages was published.
        """
        if not self.is_connected or self._transport is None:
            raise ConnectionClosedError
        lines: list[bytes] = []
        for subject, body, reply, raw_headers in messages:
            headers = raw_headers.encode()
            if len(headers) + len(body) > self.max_payload:
                raise MaxPayloadError
            line = f"HPUB {subject} {reply} {len(headers)} {len(headers) + len(body)}\r\n"
            lines += (line.encode(), headers, body, b"\r\n")
        await self._send_command(b"".join(lines))
        await self._flush_pending()
        try:
            await self._transport.drain()  # type: ignore[no-untyped-call]
        except OSError as error:
            raise ConnectionClosedError from error

    async def _flush_pending(self, force_flush: bool = False) -> None:
        """Write at once what is pending, if connected; `force_flush`: the library does so. Raises TransportClosed."""
        if force_flush:
            await super()._flush_pending(force_flush=True)
        elif self._pending and self.is_connected and self._transport is not None:
            pending, self._pending, self._pending_data_size = self._pending, [], 0
            try:
                self._transport.writelines(pending)
            except RuntimeError as error:
                raise TransportClosed from error

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """Send a ping; raise TransportClosed in place of uvloop's RuntimeError."""
        try:
            await super()._send_ping(future)
        except RuntimeError as error:
            raise TransportClosed from error

    async def _process_ping(self) -> None:
        """Answer the server's ping. Pass over TransportClosed: the reading goes on and finds the connection's end."""
        with contextlib.suppress(TransportClosed):
            await super()._process_ping()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Write what is pending, close, and call the callbacks if `do_cbs`, also if that write fails."""
        with contextlib.suppress(TransportClosed):
            await self._flush_pending()
        self._pending, self._pending_data_size = [], 0
        await super()._close(status, do_cbs)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Take what the server says of itself; with `needs_tls`, use TLS although its greeting only offers it.

        Raises BrokerMisconfigured, before anything is sent, if `needs_tls` and the greeting offers no TLS.
        """
        if initial_connection and self.needs_tls:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise BrokerMisconfigured(
                    "the server offers no TLS, and NATS_URL says tls://; nothing was sent to it. Configure TLS there, "
                    "or write nats:// if the network may read everything, passwords included"
                )
            info["tls_required"] = True  # the library uses TLS if the server requires it, not if it just offers it
        await super()._process_info(info, initial_connection)

    async def _process_err(self, err_msg: str) -> None:
        """Report a denial to `error_cb`, with its subject as the server wrote it; leave all else to the library."""
        lower = err_msg.lower()
        if parser.PERMISSIONS_ERR not in lower:
            await super()._process_err(lower)
            return
        text = err_msg.strip("'")
        self._err = Error(f"nats: {text}")
        await self._error_cb(self._err)

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
