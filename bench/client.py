"""HTTP/1.1 as a load generator needs it: raw requests over connections that stay open, each answer timed."""

import asyncio
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from infra.auth.authorities import authorities

PATIENCE_S: Final = 60.0
"""A system that does not answer for this long is taken to be broken."""
MOST_CONNECTIONS: Final = 256  # of an open loop


class Broken(Exception):
    """A connection ended, an answer could not be read, or none came."""


class Answer(NamedTuple):
    """`after_s`: seconds since the request was sent or, in an open loop, since it was due."""

    status: int
    body: bytes
    after_s: float


class Answers(NamedTuple):
    """The answers in the order of the requests. `seconds`: from the first request until all were answered."""

    answers: list[Answer]
    seconds: float


Take = Callable[[int, Answer], None]
"""Takes the answer to the request of this number, when it comes. It has to be quick: it is called during the load."""


class Asker(Protocol):
    """The user of connections: it sends requests over them and receives the answers."""

    def answered(self, connection: "Connection", number: int, answer: Answer) -> None: ...
    def fail(self, error: Broken) -> None: ...


class Connection(asyncio.Protocol):
    """One connection, for one request at a time."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._got = b""
        self._number = -1
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclasses of it

    def send(self, number: int, request: bytes, since: float) -> None:
        self._number, self._since = number, since
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        got = self._got + data if self._got else data
        head, found, body = got.partition(b"\r\n\r\n")
        if found:
            length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or -1)
            if length < 0:
                self._asker.fail(Broken(f"an answer without a length: {head.decode(errors='replace')}"))
            if len(body) >= length:
                self._got = b""
                self._asker.answered(self, self._number, Answer(int(head[9:12]), body, perf_counter() - self._since))
                return
        self._got = got

    def connection_lost(self, _: Exception | None) -> None:
        self._asker.fail(Broken("a connection was closed"))

    def close(self) -> None:
        self._transport.abort()


async def connect(url: str, asker: Asker, count: int) -> list[Connection]:
    """Open `count` connections to this address for this asker."""
    at = urlsplit(url)
    assert at.hostname is not None
    assert at.port is not None
    loop, known = asyncio.get_running_loop(), authorities(os.environ) if at.scheme == "https" else None
    made = [
        await loop.create_connection(lambda: Connection(asker), at.hostname, at.port, ssl=known) for _ in range(count)
    ]
    return [connection for _, connection in made]


class _Load(ABC):
    """Requests to one address, and their answers."""

    def __init__(self, url: str, requests: Sequence[bytes], take: Take) -> None:
        self._url = url
        self._requests = requests
        self._take = take
        self._open = len(requests)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def finish(self, began: float) -> float:
        """Returns the seconds since `began`, once all requests are answered."""
        try:
            while not self._done.done():
                before = self._open
                await asyncio.wait([self._done], timeout=PATIENCE_S)
                if not self._done.done() and self._open == before:
                    raise Broken(f"no answer for {PATIENCE_S:.0f} s, {self._open:,} are missing")
            self._done.result()
            return perf_counter() - began
        finally:
            self._open = 0  # errors of connections are ignored from here on

    def answered(self, connection: Connection, number: int, answer: Answer) -> None:
        self._take(number, answer)
        self._open -= 1
        if self._open == 0:
            self._done.set_result(None)
        self.free(connection)

    @abstractmethod
    def free(self, connection: Connection) -> None:
        """Called when this connection may send the next request."""

    def fail(self, error: Broken) -> None:
        if self._open and not self._done.done():
            self._done.set_exception(error)


class _Closed(_Load):
    """A closed loop: each connection sends its next request when it has the answer to the one before."""

    async def run(self, clients: int) -> float:
        connections = await connect(self._url, self, min(clients, len(self._requests)))
        self._next = 0
        began = perf_counter()
        for connection in connections:
            self.free(connection)
        try:
            return await self.finish(began)
        finally:
            for connection in connections:
                connection.close()

    def free(self, connection: Connection) -> None:
        if self._next < len(self._requests):
            number, self._next = self._next, self._next + 1
            connection.send(number, self._requests[number], perf_counter())


class _Open(_Load):
    """An open loop: each request is due at a fixed time, whatever happened to earlier ones. Its wait for a free
    connection counts as latency.
    """

    async def run(self, rate: float) -> float:
        self._free = deque(await connect(self._url, self, min(MOST_CONNECTIONS, len(self._requests))))
        connections = list(self._free)
        self._due: deque[tuple[int, float]] = deque()
        loop = asyncio.get_running_loop()
        began = perf_counter()

        def pace() -> None:
            # In a thread: the timers of an event loop are a millisecond coarse.
            for number in range(len(self._requests)):
                at = began + number / rate
                time.sleep(max(0.0, at - perf_counter()))
                if self._done.done():
                    return
                loop.call_soon_threadsafe(self._is_due, number, at)

        pacer = threading.Thread(target=pace)
        pacer.start()
        try:
            return await self.finish(began)
        finally:
            await asyncio.to_thread(pacer.join)
            for connection in connections:
                connection.close()

    def _is_due(self, number: int, at: float) -> None:
        self._due.append((number, at))
        self._send()

    def free(self, connection: Connection) -> None:
        self._free.append(connection)
        self._send()

    def _send(self) -> None:
        while self._due and self._free:
            number, at = self._due.popleft()
            self._free.pop().send(number, self._requests[number], at)


async def send(
    url: str, requests: Sequence[bytes], take: Take, *, clients: int = 0, rate: float | None = None
) -> float:
    """Send the requests: `rate` a second, evenly, or over as many connections as there are `clients`.

    Returns the seconds until all were answered. Raises Broken.
    """
    if rate is None:
        return await _Closed(url, requests, take).run(clients)
    return await _Open(url, requests, take).run(rate)


async def closed_loop(url: str, requests: Sequence[bytes], clients: int) -> Answers:
    """Send the requests over as many connections as there are `clients`, and keep all answers. Raises Broken."""
    return await _kept(url, requests, clients=clients)


async def open_loop(url: str, requests: Sequence[bytes], rate: float) -> Answers:
    """Send `rate` requests a second, evenly, and keep all answers. Raises Broken."""
    return await _kept(url, requests, rate=rate)


async def _kept(url: str, requests: Sequence[bytes], *, clients: int = 0, rate: float | None = None) -> Answers:
    answers: list[Answer | None] = [None] * len(requests)
    seconds = await send(url, requests, answers.__setitem__, clients=clients, rate=rate)
    return Answers([answer for answer in answers if answer], seconds)
