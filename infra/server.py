"""uvicorn as a service runs it: signals left to the service, and one write for each answer."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Final, cast

import uvicorn
from litestar import Litestar
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BACKLOG: Final = 2_048  # connections that wait to be accepted
KEEP_ALIVE_S: Final = 75  # longer than clients and proxies keep an idle connection, so that they close it, not we
OPEN_REQUESTS_S: Final = 3  # that a request under way at SIGTERM gets to finish


class Gathered:
    """A transport whose writes of one turn of the event loop go out together.

    uvicorn writes an answer's head and its body apart, and uvloop sends each at once: two system calls for us, two
    wake-ups for the client, for an answer that fits into one packet.
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
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, Gathered(transport, self.loop)))


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: it would raise the signal again after its shutdown, before ours."""

    def __init__(self, app: Litestar) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=OPEN_REQUESTS_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
