"""Begins to accept HTTP connections: at once, or, on a socket that the starter holds, once `broker.trouble` is None.

On such a socket it begins after ACCEPT_WITHIN_S (5 s) at the latest. The starter is the process that started the
service; `just up` holds the sockets of its services (`infra.listening`).
"""

import asyncio
import socket
from typing import Final

from infra.aio import wait
from infra.http.server import Server
from infra.listening import is_held
from infra.process.runtime import Runtime

ACCEPT_WITHIN_S: Final = 5.0
"""So long connections wait for a session with the broker at most; then they get an answer, such as 503, without it."""
LOOK_EVERY_S: Final = 0.02


async def serve(server: Server, listener: socket.socket, runtime: Runtime, within_s: float = ACCEPT_WITHIN_S) -> None:
    """Serve until the server ends. Begin at once; on a held socket, once `broker.trouble` is None or `within_s` ends.

    `within_s` is in seconds. Until then connections wait in the system's queue. If `closing` is set before, this
    returns and accepts none of them: the next process finds them in the held socket.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while is_held() and runtime.broker.trouble is not None and loop.time() < until:
        if await wait(runtime.closing, LOOK_EVERY_S):
            return
    await server.serve([listener])
