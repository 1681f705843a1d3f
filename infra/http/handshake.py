"""Accepts connections for TLS. Each counts, and waits, as one of the server's connections before its handshake ends."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

import structlog

from infra.http.connection import HttpConnection
from infra.http.connection_limit import ConnectionLimit
from infra.listening import BACKLOG

logger = structlog.get_logger()

AT_ONCE: Final = 32  # connections; then others in the process have their turn
RETRY_S: Final = 1.0  # after a connection could not be accepted, such as for want of open files


class TlsListener:
    """Accepts connections of one listening socket until `close`. In uvicorn's list of servers it is one of them."""

    def __init__(
        self,
        listener: socket.socket,
        limit: ConnectionLimit,
        context: ssl.SSLContext,
        handshake_s: float,
        make: Callable[[], HttpConnection],
    ) -> None:
        """Begin to accept. `make` returns a connection's protocol. A handshake has to end within `handshake_s`."""
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._listener = listener
        self._limit = limit
        self._context = context
        self._handshake_s = handshake_s
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Accept no more: who connects next stays in the system's queue. Handshakes that have begun go on."""
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """Return at once: `close` has done all."""

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                logger.warning("a connection cannot be accepted", error=str(error), next_step="see `ulimit -n`")
                self._loop.remove_reader(self._listener)
                self._retry = self._loop.call_later(RETRY_S, self._loop.add_reader, self._listener, self._accept)
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # the limit knows it from here on
            Handshake(accepted, self._limit, self._context, self._handshake_s, self._make, address=address[0])


class Handshake:
    """One accepted connection until its handshake has ended."""

    def __init__(
        self,
        accepted: socket.socket,
        limit: ConnectionLimit,
        context: ssl.SSLContext,
        seconds: float,
        make: Callable[[], HttpConnection],
        *,
        address: str,
    ) -> None:
        self._accepted = accepted
        self._limit = limit
        self._connection = make()
        self._succeeded = self._counted_elsewhere = False
        self._task = asyncio.get_running_loop().create_task(self._run(context, seconds))
        self._task.add_done_callback(self._end)
        limit.handshakes[self._connection] = self._give_place
        limit.opened(self, address)
        limit.waits(self, seconds)

    def expired(self) -> None:
        self._task.cancel()

    def abort(self) -> None:
        self._task.cancel()

    async def _run(self, context: ssl.SSLContext, seconds: float) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._connection, self._accepted, ssl=context, ssl_handshake_timeout=seconds
            )
        except OSError:  # the client is gone, does not speak TLS as it should, or took too long
            return
        self._succeeded = True

    def _give_place(self) -> None:
        self._counted_elsewhere = True
        self._limit.closed(self)

    def _end(self, _: asyncio.Task[None]) -> None:
        if not self._counted_elsewhere:
            del self._limit.handshakes[self._connection]
            self._limit.closed(self)
        if not self._succeeded:
            self._accepted.close()
