"""uvicorn as a service runs it: the service handles signals, an answer is one write, HTTP errors are problems, too.

The private members of uvicorn that this module uses, and what could replace uvicorn, are in
docs/decisions/0014-one-write-per-answer.md.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, cast

import msgspec
import uvicorn
from litestar import Litestar
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from infra.http.problems import Problem
from infra.tuning import raise_open_file_limit

MAX_CONNECTIONS: Final = 16_384
OTHER_FILES: Final = 256
"""Open files besides HTTP connections: the store, the read models, the connection to the broker, with some to spare."""
BACKLOG: Final = 2_048  # connections waiting to be accepted
KEEP_ALIVE_S: Final = 75  # longer than clients and proxies keep an idle connection, so that they close it
REQUESTS_A_TURN: Final = 32  # requests that begin in one turn of the event loop, at most
OPEN_REQUESTS_S: Final = 3  # for requests in flight at SIGTERM to finish

_MALFORMED: Final = msgspec.json.encode(
    Problem(400, "malformed-request", "this is not an HTTP/1.1 request; the connection is closed").body
)
MALFORMED: Final = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"content-type: application/problem+json\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n"
    b"\r\n"
    b"%b" % (len(_MALFORMED), _MALFORMED)
)
"""The whole answer to bytes that cannot be parsed as a request: the app never sees such bytes."""


class CoalescingTransport:
    """Wraps a transport and sends all writes of one turn of the event loop together, right after that turn.

    `close` sends waiting writes first. Everything else is passed on to the wrapped transport.

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
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class RequestPacer:
    """Begins at most `a_turn` requests in one turn of the event loop; the others wait for the next turns, in order.

    Broker input and commits run between two turns. Otherwise a burst of requests that are each answered quickly (e.g.
    503) monopolises the loop, and accepted work makes no progress.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, a_turn: int = REQUESTS_A_TURN) -> None:
        self._loop = loop
        self._a_turn = a_turn
        self._left = a_turn
        self._waiting: deque[Callable[[], None]] = deque()
        self._ticking = False

    def begin(self, start: Callable[[], None]) -> None:
        if not self._ticking:
            self._ticking = True
            self._loop.call_soon(self._next_turn)
        if self._left and not self._waiting:
            self._left -= 1
            start()
        else:
            self._waiting.append(start)

    def _next_turn(self) -> None:
        now = min(self._a_turn, len(self._waiting))
        self._left = self._a_turn - now
        self._ticking = now > 0
        if self._ticking:
            self._loop.call_soon(self._next_turn)
        for _ in range(now):
            self._waiting.popleft()()


class _Protocol(HttpToolsProtocol):
    def __init__(self, pacer: RequestPacer, max_connections: int, **config: Any) -> None:
        """Make the protocol of one connection, which is closed at once if `max_connections` others are open.

        `config` are the arguments that uvicorn gives to its protocol.
        """
        super().__init__(**config)
        self._pacer = pacer
        self._max_connections = max_connections

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._pacer.begin(partial(super()._start_asgi_task, cycle, app))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, CoalescingTransport(transport, self.loop)))
        if len(self.connections) > self._max_connections:
            self.transport.close()
        else:  # a connection that sends no first request is closed after the same time as an idle one
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        """Close the connection on bytes that are no request; answer MALFORMED first if no earlier request waits.

        Clients match answers to requests by their sequence, so no earlier request may get MALFORMED. Whole requests
        that wait are answered before the close, but not if the bytes are in the body of a later request.
        """
        waiting = self.cycle is not None and not self.cycle.response_complete
        if waiting and not self.cycle.more_body:
            self.cycle.keep_alive = False  # the request is answered, then the connection is closed
        elif waiting and self.pipeline:
            self.transport.close()  # several requests still wait for answers: this answer has no turn of its own
        else:
            self.transport.write(MALFORMED)
            self.transport.close()


class Server(uvicorn.Server):
    """Runs an app in uvicorn, without uvicorn's signal handlers.

    Those would raise the signal again after uvicorn's shutdown and before the service's own.
    """

    def __init__(
        self, app: Litestar, max_connections: int = MAX_CONNECTIONS, keep_alive_s: float = KEEP_ALIVE_S
    ) -> None:
        """Raise the limit of open files; admit `max_connections` connections, or fewer if that limit is lower.

        `keep_alive_s`: the seconds after which an idle connection is closed. Needs a running event loop.
        """
        most = min(max_connections, max(1, raise_open_file_limit() - OTHER_FILES))
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(_Protocol, RequestPacer(asyncio.get_running_loop()), most),  # type: ignore[arg-type]
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                timeout_keep_alive=keep_alive_s,  # type: ignore[arg-type]  # a timer takes fractions, too
                timeout_graceful_shutdown=OPEN_REQUESTS_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
