"""One HTTP connection: whole requests to the app, one at a time, and bounds on all that a client may do meanwhile.

uvicorn gives the lifecycle of the server. How a request is read is here and in `framing`, how it is answered in
`exchange`. See decision 32.
"""

import asyncio
from functools import partial
from time import perf_counter
from typing import Any, Final
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from infra.http.connection_limit import ConnectionLimit
from infra.http.durations import BEGAN
from infra.http.exchange import STATUS_LINES, Exchange
from infra.http.framing import HttpRequest, RequestReader
from infra.http.grammar import malformed, request_timeout
from infra.http.pacing import RequestPacer
from infra.http.problems import Problem, encode_problem

ANSWER_S: Final = 10.0  # for the client to take an answer that is larger than the system's buffers
LINGER_S: Final = 2.0  # for the client to take the answer to a request that was refused before its end
LINGER_BYTES: Final = 8 << 20  # read and dropped meanwhile; a client that sends and does not read would miss the answer
UNSENT_BYTES: Final = 16 << 10  # of answers that the client has not taken; with more, no further request begins


class HttpConnection(asyncio.BufferedProtocol):
    """Reads requests from one connection and has them answered in their order.

    While a request is answered, at most READ_BYTES bytes more are read; then TCP holds the client back.
    """

    def __init__(
        self,
        limit: ConnectionLimit,
        pacer: RequestPacer,
        max_body_bytes: int,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """`config` and all after it are what uvicorn gives to its protocols. `app_state` is not used."""
        self._limit = limit
        self._pacer = pacer
        self._app = config.loaded_app
        self._state = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._reader = RequestReader(max_body_bytes)
        self._scope_of_all: dict[str, Any] = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self.writable = asyncio.Event()
        self.writable.set()
        self._exchange: Exchange | None = None  # the request that is being answered
        self._begun = False  # a part of the next request has come
        self._continued = False  # 100 Continue was sent for it
        self._ended = False  # the client sends no more
        self._paused = False  # nothing is read
        self._refused = False
        self._dropped = 0  # bytes read after a refusal

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._transport = transport
        self._scope_of_all |= {
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "scheme": "http" if transport.can_write_eof() else "https",  # with TLS no side is closed alone
            "root_path": "",
        }
        self._state.connections.add(self)  # type: ignore[arg-type]
        client = self._scope_of_all["client"]
        self._limit.opened(self, client[0] if client else "")
        if self._limit.stopping:
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self._limit.closed(self)
        if self._exchange is not None:
            self._exchange.disconnect()
        self.writable.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._limit.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._refused:
            self._dropped += nbytes
            if self._dropped > LINGER_BYTES:
                self._transport.abort()
            return
        self._reader.feed(self._limit.read_buffer[:nbytes])
        if self._exchange is None and self.writable.is_set():
            self._advance()
        elif not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Return True, so that answers can still be sent: a client may close its side first. False after a refusal."""
        self._ended = True
        if self._refused:
            return False
        if self._exchange is None and self.writable.is_set():
            self._advance()
        return self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self.writable.clear()
        self._limit.waits(self, ANSWER_S)

    def resume_writing(self) -> None:
        self.writable.set()
        if self._exchange is not None:
            self._limit.works(self)
        elif not (self._refused or self._transport.is_closing()):
            self._idle()

    # Requests ---------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Begin the next request if it is complete. If not, wait for the rest, or close if none can come.

        Also closes the connection if what has come is malformed. A malformed or unfinished request is answered first.
        """
        try:
            request = self._reader.next_request()
        except Problem as problem:
            self._refuse(problem)
            return
        if request is not None:
            self._begin(request)
        elif self._ended and self._reader.begun:
            self._refuse(malformed("the client closed its side within this request"))
        elif self._ended:
            self._transport.close()
            self._limit.waits(self, ANSWER_S)
        else:
            if self._reader.begun and not self._begun:
                self._begun = True
                self._limit.begins(self)
            if self._reader.expects_continue and not self._continued:
                self._continued = True
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self._paused:
                self._paused = False
                self._transport.resume_reading()

    def _begin(self, request: HttpRequest) -> None:
        self._limit.works(self)
        self._begun = self._continued = False
        raw_path, _, query = request.target.partition(b"?")
        path = raw_path.decode("ascii")
        scope = self._scope_of_all | {
            "http_version": request.version,
            "method": request.method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": request.headers,
            "state": {BEGAN: perf_counter()},
        }
        self._exchange = Exchange(self, request, scope, self._state.default_headers)
        self._exchange.keep_alive &= not self._limit.stopping
        self._pacer.begin(partial(self._start, self._exchange))

    def _start(self, exchange: Exchange) -> None:
        task = self._loop.create_task(exchange.run(self._app))
        task.add_done_callback(self._state.tasks.discard)
        self._state.tasks.add(task)

    # What the exchange calls ------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def close(self) -> None:
        self._transport.close()
        self._limit.waits(self, ANSWER_S)

    def answered(self) -> None:
        self._exchange = None
        if self._transport.is_closing():
            self._limit.waits(self, ANSWER_S)
        else:
            self._idle()

    def _idle(self) -> None:
        self._limit.waits(self, self._limit.keep_alive_s if self.writable.is_set() else ANSWER_S)
        if self.writable.is_set() and (self._paused or self._ended or self._reader.begun):
            self._advance()

    # Ends -------------------------------------------------------------------------------------------------------------

    def _refuse(self, problem: Problem) -> None:
        """Answer with `problem`, then close. Call it only once all earlier requests have been answered.

        Before the close, up to LINGER_BYTES that the client still sends within LINGER_S seconds are read and dropped.
        Otherwise the kernel would reset the connection, and the client might never see the answer.
        """
        self._refused = True
        head, body = encode_problem(problem)
        fields = [*self._state.default_headers, *head, (b"connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        self._transport.write(STATUS_LINES[problem.body.status] + lines + b"\r\n" + body)
        if self._ended:
            self._transport.close()
        else:
            if self._transport.can_write_eof():
                self._transport.write_eof()
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
        self._limit.waits(self, LINGER_S)

    def expired(self) -> None:
        """Close: the client's time has passed. An unfinished request is answered with 408 first.

        If the client has not taken an earlier answer, the connection is aborted instead.
        """
        if self._refused or not self.writable.is_set() or self._transport.is_closing():
            self._transport.abort()
        elif self._reader.begun:
            self._refuse(request_timeout(self._limit.request_s))
        else:
            self._transport.close()
            self._limit.waits(self, ANSWER_S)

    def abort(self) -> None:
        self._transport.abort()

    def shutdown(self) -> None:
        """Close after the present or next answer, or after `last_request_s` without a whole request.

        uvicorn calls this when the server stops. Closed at once, a request that is on its way would be lost.
        """
        if self._exchange is not None:
            self._exchange.keep_alive = False
        else:
            self._loop.call_later(self._limit.last_request_s, self._close_unused)

    def _close_unused(self) -> None:
        if self._exchange is None:
            self._transport.close()
