"""One request and its answer: the ASGI app's side of a connection.

The head of an answer waits for the first part of its body and goes out with it. So most answers are one write, which is
one system call here and one wake-up at the client (decision 14).
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import structlog

from infra.http.durations import STATUS
from infra.http.framing import HttpRequest
from infra.http.grammar import FIELDS
from infra.http.problems import internal_error, send_problem

logger = structlog.get_logger()

STATUS_LINES: Final = {int(status): f"HTTP/1.1 {status:d} {status.phrase}\r\n".encode() for status in HTTPStatus}
WITHOUT_BODY: Final = (204, 304)

Field = tuple[bytes, bytes]


class ClientConnection(Protocol):
    """The connection, as an exchange uses it."""

    writable: asyncio.Event
    """Set while the client takes what is written."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def answered(self) -> None:
        """Go on with the next request: the whole answer has been written."""


class Exchange:
    """Gives the app one whole request by `receive`, and writes its answer by `send`, as ASGI has them."""

    def __init__(
        self, connection: ClientConnection, request: HttpRequest, scope: dict[str, Any], defaults: Sequence[Field]
    ) -> None:
        """`defaults` are header fields of every answer."""
        self._connection = connection
        self._request = request
        self._scope = scope
        self._defaults = defaults
        self.keep_alive = request.keep_alive
        """Whether the connection stays open after the answer; it may become False until the answer ends."""
        self._received = False
        self._status = 0
        self._head = b""
        """Status line and fields, until they are written."""
        self._length: int | None = None
        """Bytes of the body that are still to come; None: the answer is chunked, or ends with the connection."""
        self._chunked = False
        self._over: asyncio.Event | None = None
        self.complete = self.disconnected = False

    async def run(self, app: Any) -> None:
        """Have `app` answer, and log its error; returning before the whole answer is an error, too.

        If nothing of the answer is written, the error becomes a 500; then the connection is closed. If only a part is
        written, the connection is closed at once. After the whole answer, the error is only logged. If the connection
        is lost, returning early is no error. A cancellation closes the connection and is raised.
        """
        try:
            await app(self._scope, self.receive, self.send)
            if not (self.complete or self.disconnected):
                raise RuntimeError("the app has returned without its whole answer")
        except asyncio.CancelledError:
            self._connection.close()
            raise
        except Exception as error:
            logger.error("request failed", method=self._request.method, path=self._scope["path"], exc_info=error)
            if self.complete:
                return  # the connection may be answering the next request
            if self._status and not self._head:
                self._connection.close()  # a part of the answer is written
            else:
                self._status, self.keep_alive = 0, False
                await send_problem(internal_error(), self.send)

    def disconnect(self) -> None:
        """Note that the connection is lost: nothing more is written."""
        self.disconnected = True
        self._end()

    def _end(self) -> None:
        if self._over is not None:
            self._over.set()

    async def receive(self) -> dict[str, Any]:
        """Return `http.request` with the whole body at the first call.

        Later calls wait until the answer is complete or the connection is lost, and return `http.disconnect`.
        """
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": bytes(self._request.body), "more_body": False}
        self._over = self._over or asyncio.Event()
        if not (self.complete or self.disconnected):
            await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Take the head of the answer or a part of its body; before, wait while too much that was written is not taken.

        Does nothing if the connection is lost. Raises RuntimeError for a message at the wrong time, or for what no
        client could read. Raises KeyError for a status that HTTPStatus does not have, and ValueError for a
        Content-Length that is no number.
        """
        if not self._connection.writable.is_set() and not self.disconnected:
            await self._connection.writable.wait()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and self._status == 0:
            self._begin(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self._status and not self.complete:
            self._write(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} at the wrong time")

    def _begin(self, status: int, headers: Sequence[Field]) -> None:
        fields: list[bytes] = []
        length, chunked = None, False
        for name, value in (*self._defaults, *headers):
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                continue
            fields.append(b"%b: %b\r\n" % (name, value))
        if self._request.method == "HEAD" or status in WITHOUT_BODY:
            length = 0
        elif length is None:
            chunked = self._request.version == "1.1"
            self.keep_alive = self.keep_alive and chunked
            if chunked:
                fields.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            fields.append(b"connection: close\r\n")
        lines = b"".join(fields)
        if lines.count(b"\n") != len(fields) or not FIELDS.fullmatch(lines):
            raise RuntimeError("a header of the answer is none")
        self._head = STATUS_LINES[status] + lines + b"\r\n"
        self._status, self._length, self._chunked = status, length, chunked
        self._scope["state"][STATUS] = status

    def _write(self, body: bytes, *, more: bool) -> None:
        if self._request.method == "HEAD":
            body = b""
        if self._length is not None:
            self._length -= len(body)
            if self._length < 0 or (self._length and not more):
                raise RuntimeError("the body of the answer has another length than its head says")
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        head, self._head = self._head, b""
        if head or body:
            self._connection.write(head + body)
        if not more:
            self.complete = True
            self._end()
            if not self.keep_alive:
                self._connection.close()
            self._connection.answered()
