"""Sessions with the broker: connect, make what is missing, mirror the log, hear; when anything fails, all of it again.

Each session is a fresh connection, asks the stream where to continue, and resets its consumer to what was really
acknowledged.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Final

import structlog
from eventsourcing.persistence import PersistenceError
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from infra.broker.client import BrokerClient
from infra.broker.connection import CONNECT_TIMEOUT_S, Connect, describe
from infra.broker.consumers import ensure_consumer
from infra.broker.errors import ConnectionLost, LogLost, SessionEnded, StreamMisconfigured
from infra.broker.relay import Relay
from infra.broker.streams import EVENTS, ensure_stream, is_full
from infra.broker.truncation import ReceivedPositions
from infra.consuming.consumer import ConsumerSession
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.retry_queue import FailureHandling, RetryQueue
from infra.core.errors import StoreUnavailable
from infra.core.writer import Clock, Writer
from infra.settings import Settings
from infra.store.event_store import EventStore

logger = structlog.get_logger()

FIRST_BACKOFF_S: Final = 0.05
LONGEST_BACKOFF_S: Final = 1.0
SETTLED_AFTER_S: Final = 5.0  # of a session's life the next one begins without a long pause
LOOK_EVERY_S: Final = 1.0  # at the stream's size
SHUTDOWN_S: Final = 3.0  # for publishing and acknowledging what is in hand

ENDS_A_SESSION: Final = (
    OSError,
    NatsError,
    SessionEnded,
    PersistenceError,
    StoreUnavailable,
)
"""What is over when the next session begins, or the one after it."""


@dataclass
class _Session:
    nc: BrokerClient
    js: JetStreamContext
    relay: Relay
    hearing: ConsumerSession
    lost: asyncio.Event
    stream_made_at: str | None
    full: bool = False


class Broker:
    """A service's side of the broker, over all its sessions."""

    def __init__(
        self,
        service: str,
        hears: Collection[str],
        settings: Settings,
        store: EventStore,
        writer: Writer,
        *,
        clock: Clock,
        connect: Connect,
    ) -> None:
        self._service = service
        self._hears = hears
        self._settings = settings
        self._store = store
        self._writer = writer
        self._connect_to = connect
        writer.suspend("the log has not been compared with the stream yet")
        self._received = ReceivedPositions()
        self.letters = DeadLetters(service, settings, clock)
        self._acked = 0
        self._session: _Session | None = None
        self._stopping = asyncio.Event()
        self._why_not = "not connected yet"

    @property
    def trouble(self) -> str | None:
        """Why facts cannot be published right now; None: they can."""
        session = self._session
        if session is None or session.lost.is_set():
            return f"no session with the broker: {self._why_not}"
        if session.full:
            return "the stream EVENTS is full"
        if not session.relay.has_caught_up:
            return "the relay has not caught up with the log"
        if session.relay.stalled:
            return "the broker is not acknowledging facts"
        return None

    @property
    def connection(self) -> Client | None:
        """For reads of the stream on demand; None while there is no session."""
        session = self._session
        return None if session is None or session.lost.is_set() else session.nc

    @property
    def retry_queue(self) -> RetryQueue | None:
        """Where operators have dead letters handled; None while there is no session."""
        session = self._session
        return None if session is None or session.lost.is_set() else session.hearing.retry_queue

    def log_has_grown(self) -> None:
        if self._session is not None:
            self._session.relay.log_has_grown()

    async def run(self) -> None:
        """Session after session, until `stop`."""
        loop, backoff_s = asyncio.get_running_loop(), FIRST_BACKOFF_S
        while not self._stopping.is_set():
            began = loop.time()
            try:
                async with self._connect() as session:
                    await self._work(session)
            except ENDS_A_SESSION as error:
                self._why_not = describe(error)
                logger.warning("session with the broker ended", reason=self._why_not, again_in_s=backoff_s)
            except StreamMisconfigured as error:
                self._why_not = str(error)
                logger.error("the broker cannot be used", reason=self._why_not)
                backoff_s = LONGEST_BACKOFF_S
            except LogLost as error:
                self._why_not = str(error)
                self._writer.suspend(self._why_not, reads_too=True)
                logger.error("neither hearing, recording nor speaking", reason=self._why_not)
                backoff_s = LONGEST_BACKOFF_S
            except Exception as error:
                self._why_not = f"{type(error).__name__}: {error}"
                logger.exception("session with the broker failed")
                backoff_s = LONGEST_BACKOFF_S
            if loop.time() - began > SETTLED_AFTER_S:
                backoff_s = FIRST_BACKOFF_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff_s):
                    await self._stopping.wait()
            backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator[_Session]:
        async with self._connect_to(self._settings, f"{self._service}_svc", self._stopping) as (nc, lost):
            js = nc.jetstream(timeout=CONNECT_TIMEOUT_S)
            info = await ensure_stream(js, self._settings)
            relay = Relay(self._service, self._store, nc, js)
            await relay.find_resume_position(self._acked)
            self._writer.resume()
            truncated_after = await self._received.truncated_after(js)
            handling = FailureHandling(self.letters, self._writer.attempt, self._writer.preview)
            hearing = ConsumerSession(self._service, nc, self._writer, self._received, handling)
            await ensure_consumer(
                js, self._service, self._hears, info.state.last_seq, truncated_after, take_over=hearing.take_over
            )
            if truncated_after is not None:
                self._received.forget_after(truncated_after)
            await self.letters.open(js)
            yield _Session(nc, js, relay, hearing, lost, str(info.created), is_full(info))

    async def _work(self, session: _Session) -> None:
        """Until something fails, or until `stop` and all that was in hand is published and acknowledged."""
        at = session.nc.connected_url
        logger.info("session with the broker", at=f"{at.hostname}:{at.port}" if at else "unknown")
        self._session = session
        tasks = [
            asyncio.create_task(coroutine)
            for coroutine in (
                session.relay.run(),
                session.hearing.run(),
                self._watch(session),
                self._lost(session),
                self._finish(session),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            session.hearing.closed = True
            session.hearing.retry_queue.close()
            self._acked = session.relay.acked
            self._session = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _lost(self, session: _Session) -> None:
        await session.lost.wait()
        raise ConnectionLost("connection lost")

    async def _watch(self, session: _Session) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            # Looked at, not made: a stream or consumer that went away ends the session, and the next one starts over.
            info = await session.js.stream_info(EVENTS)
            await session.js.consumer_info(EVENTS, self._service)
            if str(info.created) != session.stream_made_at:
                raise ConnectionLost("the stream was replaced by another one")
            session.full = is_full(info)
            # A process that should not be there may have recorded something and said nothing.
            await self._store.max_notification_id()
            session.relay.log_has_grown()

    async def _finish(self, session: _Session) -> None:
        """The one task of a session that returns: then the session is over as it should be."""
        await self._stopping.wait()
        try:
            async with asyncio.timeout(SHUTDOWN_S):
                await session.hearing.finish(self._writer.drained())
                session.relay.log_has_grown()
                await session.relay.caught_up.wait()
                await session.nc.flush()
        except TimeoutError:
            logger.warning("not everything was published; the next start does it")

    def stop(self) -> None:
        """Hear no more; `run` returns when what is in hand is recorded, published and acknowledged."""
        self._stopping.set()
