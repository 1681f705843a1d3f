"""How many connections may be open, and how long each may wait for its client."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

import structlog

logger = structlog.get_logger()

READ_BYTES: Final = 16 << 10  # that one connection gives in one read, at most
LOG_PAUSE_S: Final = 60.0  # between two log lines about the limit


class LimitedConnection(Protocol):
    """What a ConnectionLimit does to a connection: `expired` when its time has passed, `abort` when room is needed."""

    def expired(self) -> None: ...

    def abort(self) -> None: ...


class ConnectionLimit:
    """Bounds how many connections a server has, and how long each of them waits for its client.

    A connection waits for its client while it is idle, a request has begun but is not whole, or an answer is not taken.
    Each such wait has a deadline. When `max_connections` are open, a new one replaces the connection that has waited
    longest: that one is aborted. A request that is being answered is given up only if its client does not take the
    answer. If no other connection waits, the new one is aborted.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        max_connections: int,
        keep_alive_s: float,
        request_s: float,
        last_request_s: float = 0.0,
        *,
        per_address: int = 0,
    ) -> None:
        """`per_address`: how many of them one client's address may have; 0: all."""
        self.keep_alive_s = keep_alive_s
        self.request_s = request_s
        self.last_request_s = last_request_s
        self.stopping = False
        """Whether the server stops: the next answer on each connection is its last one."""
        self.read_buffer = memoryview(bytearray(READ_BYTES))
        """All connections read into this one; each takes its bytes out before the event loop reads again."""
        self._loop = loop
        self._max = max_connections
        self._per_address = per_address
        self._addresses: dict[LimitedConnection, str] = {}
        self._of_address: Counter[str] = Counter()
        self._open = 0
        self.handshakes: dict[LimitedConnection, Callable[[], None]] = {}
        """By connection that is not opened yet: what to call when it is, so that it is counted once."""
        self._waiting: dict[LimitedConnection, float] = {}  # deadlines; the longest wait first
        self._replaced = self._refused = self._turned_away = 0  # since the last log line
        self._next_log = self._next_told = 0.0

    def opened(self, connection: LimitedConnection, address: str = "") -> None:
        """Count a connection of the client at this address. If that has too many then, the connection is aborted."""
        if (ended := self.handshakes.pop(connection, None)) is not None:
            ended()
        self._open += 1
        self.waits(connection, self.keep_alive_s)
        if self._per_address:
            self._addresses[connection] = address
            self._of_address[address] += 1
            if self._of_address[address] > self._per_address:
                self._too_many_of(address)
                connection.abort()
                return
        if self._open > self._max:
            self._make_room(connection)

    def closed(self, connection: LimitedConnection) -> None:
        self._open -= 1
        self._waiting.pop(connection, None)
        if (address := self._addresses.pop(connection, None)) is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def waits(self, connection: LimitedConnection, seconds: float) -> None:
        """Note that from now on `connection` waits for its client, `seconds` at most."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = self._loop.time() + seconds

    def begins(self, connection: LimitedConnection) -> None:
        """Note that the first part of a request has come: the rest has `request_s` from now on.

        The place of `connection` in the order of waits stays the same.
        """
        self._waiting[connection] = self._loop.time() + self.request_s

    def works(self, connection: LimitedConnection) -> None:
        """Note that `connection` does not wait for its client: it has a request to answer."""
        self._waiting.pop(connection, None)

    def close_expired(self) -> None:
        """Call `expired` of the connections whose time has passed. The server calls this every second."""
        now = self._loop.time()
        for connection in [connection for connection, deadline in self._waiting.items() if deadline <= now]:
            self._waiting.pop(connection, None)
            connection.expired()

    def _too_many_of(self, address: str) -> None:
        self._turned_away += 1
        now = self._loop.time()
        if now >= self._next_told:
            self._next_told = now + LOG_PAUSE_S
            logger.warning(
                "a client's address has as many HTTP connections as it may have: further ones are closed",
                address=address,
                limit=self._per_address,
                closed=self._turned_away,
                next_step="behind a proxy all clients have its address: CONNECTIONS_PER_ADDRESS=0",
            )
            self._turned_away = 0

    def _make_room(self, newest: LimitedConnection) -> None:
        longest = next(iter(self._waiting))
        del self._waiting[longest]
        if longest is newest:
            self._refused += 1
        else:
            self._replaced += 1
        longest.abort()
        now = self._loop.time()
        if now >= self._next_log:
            self._next_log = now + LOG_PAUSE_S
            logger.warning(
                "HTTP connections are at their limit: for each new one, one that waits long for its client is closed",
                limit=self._max,
                closed_for_new=self._replaced,
                new_refused=self._refused,
                next_step="see who holds connections (ss -tn); raise `ulimit -n` if the limit is low",
            )
            self._replaced = self._refused = 0
