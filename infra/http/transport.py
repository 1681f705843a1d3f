"""What is written to a connection in one turn of the event loop leaves in one packet."""

import asyncio
from typing import Any


class CoalescingTransport:
    """Wraps a transport and sends all writes of one turn of the event loop together, right after that turn.

    `close` and `write_eof` send waiting writes first. Everything else is passed on to the wrapped transport.

    uvicorn writes an answer's head and its body separately, and uvloop sends each write at once. That is two system
    calls here and two wake-ups at the client, for an answer that fits into one packet.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
