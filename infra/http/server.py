"""uvicorn as a service runs it: the service handles signals, and `HttpConnection` reads the requests.

This module and `connection` use members of uvicorn that it does not document: `Server.on_tick`, `Server.shutdown`,
`Server.startup`, `Server.capture_signals`, `ServerState`, `Config.loaded_app`, `protocols.utils`, and how it makes and
stops a protocol. Decision 32 has the reasons (docs/decisions/0032-where-a-request-ends.md).
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, cast

import uvicorn
from litestar import Litestar

from infra.http.connection import HttpConnection
from infra.http.connection_limit import ConnectionLimit
from infra.http.grammar import REQUEST_S
from infra.http.handshake import TlsListener
from infra.http.pacing import RequestPacer
from infra.listening import is_held
from infra.tuning import raise_open_file_limit

MAX_CONNECTIONS: Final = 16_384
OTHER_FILES: Final = 256
"""Open files besides HTTP connections: the store, the read models, the connection to the broker, with some to spare."""
KEEP_ALIVE_S: Final = 75  # longer than clients and proxies keep an idle connection, so that they close it
OPEN_REQUESTS_S: Final = 3  # for requests in flight at SIGTERM to finish
LAST_REQUEST_S: Final = 2  # for a request on its way at SIGTERM, while a starter holds the listening socket
HANDSHAKE_S: Final = 5.0  # for the whole handshake of TLS
TICKS_A_SECOND: Final = 10  # how often uvicorn calls on_tick


class Server(uvicorn.Server):
    """Runs an app in uvicorn, without uvicorn's signal handlers and without its protocol.

    Those handlers would raise the signal again after uvicorn's shutdown and before the service's own.
    """

    def __init__(
        self,
        app: Litestar,
        max_connections: int = MAX_CONNECTIONS,
        keep_alive_s: float = KEEP_ALIVE_S,
        request_s: float = REQUEST_S,
        last_request_s: float | None = None,
        *,
        per_address: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Increase the process's limit of open files. Admit `max_connections`, or fewer to leave OTHER_FILES files.

        A connection without a request is closed after `keep_alive_s`; a request that has begun has to be whole within
        `request_s`. When the server stops, an idle connection stays open `last_request_s` for one more request. None:
        LAST_REQUEST_S if a starter holds the listening socket, else 0, as nobody serves the next connection either.
        One client's address may have `per_address` connections; 0: all. `tls` None: plain HTTP. Needs a running loop.
        """
        if last_request_s is None:
            last_request_s = LAST_REQUEST_S if is_held() else 0.0
        most = min(max_connections, max(1, raise_open_file_limit() - OTHER_FILES))
        loop = asyncio.get_running_loop()
        self._tls = tls
        self._limit = ConnectionLimit(loop, most, keep_alive_s, request_s, last_request_s, per_address=per_address)
        max_body_bytes = app.request_max_body_size
        assert isinstance(max_body_bytes, int), "an app without a limit of its bodies"
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(HttpConnection, self._limit, RequestPacer(loop), max_body_bytes),  # type: ignore[arg-type]
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                timeout_graceful_shutdown=OPEN_REQUESTS_S,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections; with TLS each has HANDSHAKE_S for its handshake, and counts meanwhile."""
        if self._tls is None or sockets is None:
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        made = partial(
            cast("Callable[..., HttpConnection]", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        listening = [TlsListener(one, self._limit, self._tls, HANDSHAKE_S, made) for one in sockets]
        self.servers = cast("list[asyncio.Server]", listening)  # uvicorn closes them, and waits until they are
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_A_SECOND == 0:
            self._limit.close_expired()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._limit.stopping = True
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
