"""Sessions with the broker, one after another: after any failure a new one begins.

Each session has a fresh connection, makes missing streams and consumers, and resets its consumer to the last message
that was really acknowledged. A service has one supervisor, and so has each of its read models of the stream.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, Protocol

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from infra.aio import Backoff, first_of, wait
from infra.broker.client import BrokerClient
from infra.broker.connection import CONNECT_TIMEOUT_S, Connect, describe
from infra.broker.errors import BrokerError, ConnectionLost, SessionEnded
from infra.broker.streams import ensure_stream
from infra.consuming.consumer import ConsumerSession
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.retry_queue import RetryQueue
from infra.core.errors import StoreUnavailable
from infra.settings import Settings
from infra.store.errors import StoreError

SETTLED_AFTER_S: Final = 5.0
"""After a session that lasted longer than this, the first pause is a short one again."""

PASSING: Final = (SessionEnded, OSError, NatsError, StoreError, StoreUnavailable, sqlite3.Error)
"""Errors that end a session and are over when the next one begins, or the one after it."""

Task = Callable[[], Coroutine[Any, Any, None]]


class Connection(NamedTuple):
    """A session's connection, and the stream EVENTS as it was when the session began."""

    nc: BrokerClient
    js: JetStreamContext
    stream: StreamInfo


class Session(NamedTuple):
    """The consumer of one session, and `tasks` that run beside it. The first to end ends the session."""

    consumer: ConsumerSession
    tasks: Sequence[Task]


class Supervised(Protocol):
    """Uses the sessions: a service's relay and writer, or a read model of the stream."""

    def session(self, connection: Connection) -> AbstractAsyncContextManager[Session]:
        """Prepare one session; clean up after it. Raises the error that ends the session."""
        ...

    def session_failed(self, error: Exception, reason: str, again_in_s: float) -> None:
        """Log the end of a session; the next one begins after this pause."""


class Supervisor:
    """Runs the sessions of one consumer."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        supervised: Supervised,
        dead_letters: DeadLetters,
        *,
        backoff: Backoff,
        connect: Connect,
    ) -> None:
        """`name` is the name of the connections."""
        self._name = name
        self._settings = settings
        self._supervised = supervised
        self._dead_letters = dead_letters
        self._backoff = backoff
        self._connect = connect
        self._current: tuple[BrokerClient, ConsumerSession] | None = None
        self._lost = asyncio.Event()
        self.stopping = asyncio.Event()
        """Set: `run` returns once the current session has ended."""
        self.reason = "not connected yet"
        """Why the last session ended."""

    @property
    def connection(self) -> Client | None:
        """The connection for reads of the stream on demand; None while there is no session."""
        return None if self._current is None or self._lost.is_set() else self._current[0]

    @property
    def retry_queue(self) -> RetryQueue | None:
        """The retry queue for operators' requests about dead letters; None while there is no session."""
        return None if self._current is None or self._lost.is_set() else self._current[1].retry_queue

    async def run(self) -> None:
        """Run session after session, until `stopping` is set."""
        loop = asyncio.get_running_loop()
        while not self.stopping.is_set():
            began = loop.time()
            try:
                await self._session()
                self._backoff.reset()
            except Exception as error:
                if not isinstance(error, PASSING):
                    self._backoff.longest()
                elif loop.time() - began > SETTLED_AFTER_S:
                    self._backoff.reset()
                pause_s = self._backoff.next_s()
                self.reason = _reason(error)
                self._supervised.session_failed(error, self.reason, pause_s)
            else:
                pause_s = self._backoff.next_s()
            await wait(self.stopping, pause_s)

    async def _session(self) -> None:
        """One session, until its first task ends. Raises the error that ended it."""
        async with self._connect(self._settings, self._name, self.stopping) as (nc, self._lost):
            js = nc.jetstream(timeout=CONNECT_TIMEOUT_S)
            stream = await ensure_stream(js, self._settings)
            async with self._supervised.session(Connection(nc, js, stream)) as (consumer, tasks):
                try:
                    # After the consumer was taken over: another session may have written dead letters until then.
                    await self._dead_letters.open(js)
                    self._current = nc, consumer
                    await first_of(consumer.run(), *(task() for task in tasks), _raise_when(self._lost))
                finally:
                    self._current = None
                    consumer.close()


async def _raise_when(lost: asyncio.Event) -> None:
    await lost.wait()
    raise ConnectionLost("connection lost")


def _reason(error: Exception) -> str:
    if isinstance(error, (*PASSING, BrokerError)):
        return describe(error)
    return f"{type(error).__name__}: {error}"
