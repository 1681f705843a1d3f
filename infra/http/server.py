"""uvicorn as a service runs it: signals left to the service, one write for each answer, problems of its own as ours."""

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

MOST_CONNECTIONS: Final = 16_384
OTHER_FILES: Final = 256
"""What a process opens besides: its store, its views, its line to the broker, with room to spare."""
BACKLOG: Final = 2_048  # connections that wait to be accepted
KEEP_ALIVE_S: Final = 75  # longer than clients and proxies keep an idle connection, so that they close it, not we
REQUESTS_A_TURN: Final = 32  # of the event loop
OPEN_REQUESTS_S: Final = 3  # that a request under way at SIGTERM gets to finish

_MALFORMED: Final = msgspec.json.encode(
    Problem(400, "malformed-request", "this is no HTTP/1.1 request; the connection is closed").body
)
MALFORMED: Final = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"content-type: application/problem+json\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n"
    b"\r\n"
    b"%b" % (len(_MALFORMED), _MALFORMED)
)
"""The answer to what never becomes a request that the app could answer."""


class CoalescingTransport:
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


class RequestPacer:
    """Lets few requests begin in one turn of the event loop, and keeps the others for the next ones, in order.

    Between two turns everything else gets its own: what the broker sends, what was recorded. Without that a crowd at
    the door, of which each is soon answered, has the loop to itself, and what was taken in does not get on.
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
    def __init__(self, turns: RequestPacer, most: int, **config: Any) -> None:
        """`most`: so many connections; one more is closed at once."""
        super().__init__(**config)
        self._turns = turns
        self._most = most

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._turns.begin(partial(super()._start_asgi_task, cycle, app))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, CoalescingTransport(transport, self.loop)))
        if len(self.connections) > self._most:
            self.transport.close()
        else:  # one that never says anything is closed like one that says nothing more
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        """What came cannot be parsed. Clients match answers by their order: no request before it may get this one."""
        waiting = self.cycle is not None and not self.cycle.response_complete
        if waiting and not self.cycle.more_body:
            self.cycle.keep_alive = False  # answered, then closed
        elif waiting and self.pipeline:
            self.transport.close()  # the broken one is behind others that wait: none of them can be told apart
        else:
            self.transport.write(MALFORMED)
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: it would raise the signal again after its shutdown, before ours."""

    def __init__(self, app: Litestar, most_connections: int = MOST_CONNECTIONS) -> None:
        most = min(most_connections, max(1, raise_open_file_limit() - OTHER_FILES))
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
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=OPEN_REQUESTS_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
