"""A service's side of the broker: its relay publishes its log, and its consumers deliver to its writer.

Each session asks the stream where to continue, and makes the consumers deliver what is not acknowledged.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import partial
from typing import Final

import structlog
from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from infra.aio import Backoff
from infra.broker.acknowledged import digests
from infra.broker.client import BrokerClient
from infra.broker.connection import Connect
from infra.broker.errors import ArchiveUnusable, BrokerMisconfigured, FactTooLarge, LogLost
from infra.broker.floor import archived_log, first_kept
from infra.broker.forecast import forecast
from infra.broker.generations import Generations
from infra.broker.leader import Leader
from infra.broker.permissions import facts_said_by
from infra.broker.relay import Relay
from infra.broker.rolling import overdue
from infra.broker.streams import MAX_FACT_BYTES, check_stream, full, is_full, largest_message
from infra.broker.troubles import UNACKNOWLEDGED
from infra.consuming.consumer_session import ConsumerSession
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.limits import SessionLimits
from infra.consuming.service_consumers import ServiceConsumers
from infra.consuming.supervised import Connection, Session
from infra.consuming.supervisor import LOOK_ANSWER_S, LOOK_EVERY_S, PASSING, Supervisor
from infra.core.errors import StoreUnavailable
from infra.core.writer import Clock, Writer
from infra.settings import Settings
from infra.store.errors import StoreError
from infra.store.event_store import EventStore

logger = structlog.get_logger()

FIRST_BACKOFF_S: Final = 0.05
LONGEST_BACKOFF_S: Final = 1.0
SHUTDOWN_S: Final = 3.0  # for publishing and acknowledging the work in hand


class Broker:
    """Publishes a service's log into EVENTS, and delivers the facts it hears to its writer, in session after session.

    The writer is suspended until a session has compared the log with the stream.
    """

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
        chance: Callable[[], float],
        limits: SessionLimits = SessionLimits(),  # noqa: B008  # frozen
    ) -> None:
        """`hears` are the names of the facts that the service consumes; `chance` draws the jitter of pauses, 0 to 1."""
        self._service = service
        self._consumers = ServiceConsumers(service, hears, limits)
        self._settings = settings
        self._store = store
        self._writer = writer
        writer.suspend("the log has not been compared with the stream yet")
        self._limits = limits
        self.dead_letters = DeadLetters(service, settings, clock)
        self.supervisor = Supervisor(
            f"{service}_svc",
            settings,
            self,
            self.dead_letters,
            backoff=Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S, chance=chance),
            connect=connect,
        )
        self._relay: Relay | None = None
        self._stalled_s = 0.0  # in the sessions before this one
        self._full = ""
        """What to say of a stream that is full; empty if it is not."""
        self._clock = clock
        self.forecast: Sequence[str] = ()
        """The warnings of `forecast`, as of the last look."""
        self.overdue: str | None = None
        """A warning, in words, that the newest generation should have had a successor long ago; None if not."""
        self.generations: Generations | None = None
        """Those of the stream, as the last session knew them; None before the first one."""
        self.log_lost = False
        """Whether the last session ended because the log lacks facts of this service that the stream or archive has."""
        self.store_failed = False
        """Whether the last session ended because of the service's store, and not of the broker."""
        self._failure = ""
        """Why the last session that failed did so, in words; empty if none has."""

    @property
    def trouble(self) -> str | None:
        """The reason, in words, why new work should be refused right now; None if there is none. For `/readyz`.

        For example, facts are not published or not consumed, or the stream is nearly full.
        """
        relay = self._relay
        if relay is None or self.connection is None:
            return self.supervisor.trouble or "no session with the broker yet"
        if self.supervisor.trouble:
            return self.supervisor.trouble
        if self._full:
            return self._full
        if relay.stalled:
            return f"the broker is not acknowledging facts. {UNACKNOWLEDGED}"
        if not relay.has_caught_up:
            before = self._failure and f"; the session before it ended: {self._failure}"
            return f"the relay has not caught up with the log{before}"
        return None

    @property
    def stalled_s(self) -> float:
        """`Relay.stalled_s` of all sessions together."""
        return self._stalled_s + (self._relay.stalled_s if self._relay is not None else 0.0)

    @property
    def relay(self) -> Relay | None:
        """The relay of the present session; None while there is none."""
        return self._relay

    @property
    def full(self) -> bool:
        """Whether the newest generation of the stream was too full for new work at the last look (`is_full`)."""
        return bool(self._full)

    @property
    def connection(self) -> BrokerClient | None:
        """The connection for reads of the stream on demand; None while there is no session."""
        return self.supervisor.connection

    def log_has_grown(self) -> None:
        if self._relay is not None:
            self._relay.log_has_grown()

    async def run(self) -> None:
        """Run session after session, and return after `stop`. A failed session raises nothing: the next one follows."""
        await self.supervisor.run()

    def stop(self) -> None:
        """Ask `run` to consume no more and end; return at once.

        In a session, `run` returns once work in hand is recorded, published and acknowledged, or after about 3 s.
        Deliveries in the retry queue, and those after them of the same consumer, stay unacknowledged: they come again.
        """
        self.supervisor.stopping.set()

    @contextlib.asynccontextmanager
    async def session(self, connection: Connection) -> AsyncIterator[Session]:
        (nc, js, generations), limits = connection, self._limits
        foreign = digests(self._settings.data_dir)
        leader = partial(Leader, nc, first_span=limits.first_span, batch=limits.direct_batch, foreign=foreign)
        leaders = [leader(info) for info in generations.infos]
        self._consumers.remember_ends(leaders)
        max_bytes = largest_message(generations.newest, nc.max_payload)
        self._writer.limit_facts(min(max_bytes, MAX_FACT_BYTES))
        relay = Relay(
            self._service,
            self._store,
            nc,
            max_bytes=max_bytes,
            window=limits.window,
            read_batch=limits.read_batch,
        )
        kept = first_kept(self._settings)
        archived = archived_log(self._settings, self._service)
        await relay.find_resume_position([one for one in leaders if one.number >= kept], archived)
        self._writer.resume()
        consumer = ConsumerSession(self._service, nc, self._writer, {}, self.dead_letters, pull_batch=limits.pull_batch)
        await self._consumers.reset(js, leaders, generations.sealed, consumer)
        at = nc.connected_url
        logger.info("session with the broker", at=f"{at.hostname}:{at.port}" if at else "unknown")
        self._relay, self.generations = relay, generations
        self.log_lost = self.store_failed = False
        self._full = full(generations.newest) if is_full(generations.newest) else ""
        looking = nc.jetstream(timeout=LOOK_ANSWER_S)

        async def made(info: StreamInfo) -> None:
            """Let the service hear the new generation, and the relay publish into it what is not sent yet."""
            its = leader(info)
            await self._consumers.add_generation(looking, its, consumer, sealed=False)
            relay.move_to(its)

        try:
            watch = partial(self._watch, looking, relay, generations)
            tasks = (relay.run, watch, partial(self._finish, nc, relay, consumer))
            yield Session(consumer, tasks, made, facts_said_by(self._service))
        finally:
            self._stalled_s += relay.stalled_s
            self._relay = None
            self._consumers.remember(consumer)

    def session_failed(self, error: Exception, reason: str, again_in_s: float) -> None:
        self._failure = reason
        self.log_lost = isinstance(error, LogLost)
        self.store_failed = isinstance(error, StoreError) or type(error) is StoreUnavailable
        if self.log_lost:
            self._writer.suspend(reason, reads_too=True)
            logger.error("store does not match the stream: consuming, writes and publishing are stopped", reason=reason)
        elif isinstance(error, ArchiveUnusable):
            logger.error("the archive cannot be used", reason=reason)
        elif isinstance(error, BrokerMisconfigured):
            logger.error("the broker cannot be used", reason=reason)
        elif isinstance(error, FactTooLarge):
            logger.error("a recorded fact cannot be published", reason=reason)
        elif isinstance(error, PASSING):
            logger.warning("session with the broker ended", reason=reason, again_in_s=round(again_in_s, 3))
        else:
            logger.error("session with the broker failed", reason=reason, exc_info=error)

    async def _watch(self, js: JetStreamContext, relay: Relay, generations: Generations) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            info = generations.newest
            check_stream(info.config, self._settings, sealed=True)  # a sealed one has a successor, which is found soon
            await self.dead_letters.check(js)
            self._full = full(info) if is_full(info) else ""
            self.overdue = overdue(info, self._settings, self._clock())
            self.forecast = forecast(generations.infos, self._settings, self._clock())
            # A second process of this service, against the rule, may have recorded facts without publishing them.
            await self._store.max_notification_id()
            relay.log_has_grown()

    async def _finish(self, nc: BrokerClient, relay: Relay, consumer: ConsumerSession) -> None:
        """Wait for `stop`, then complete the work in hand within SHUTDOWN_S; return, which ends the session.

        If the time is too short, log a warning: the next start publishes the rest.
        """
        await self.supervisor.stopping.wait()
        try:
            async with asyncio.timeout(SHUTDOWN_S):
                await consumer.finish(self._writer.drained())
                relay.log_has_grown()
                await relay.caught_up.wait()
                await nc.flush()
        except TimeoutError:
            logger.warning("not everything was published in time; the next start publishes the rest")
