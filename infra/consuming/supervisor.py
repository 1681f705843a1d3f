"""Sessions with the broker, one after another until `stopping` is set: after any failure, too, a new one begins.

Each session has a fresh connection, and makes missing streams and consumers. A service has one supervisor, and so has
each of its read models of the stream.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from infra.aio import Backoff, first_of, wait
from infra.broker.client import BrokerClient
from infra.broker.connection import CONNECT_TIMEOUT_S, Connect
from infra.broker.errors import BrokerError, BrokerMisconfigured, ConnectionLost, SessionEnded
from infra.broker.floor import first_kept
from infra.broker.generations import Generations, ensure_generations
from infra.broker.numbering import EVENTS, number_of, prefix
from infra.broker.permissions import check_payload, publish_probes
from infra.broker.troubles import denied, describe, is_needed, misconfigured
from infra.consuming.consumer import DurableConsumer
from infra.consuming.consumer_session import ConsumerSession
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.retry_queue import RetryQueue
from infra.consuming.session_counts import SessionCounts
from infra.consuming.supervised import Connection, Session, Supervised
from infra.core.errors import StoreUnavailable
from infra.settings import Settings
from infra.store.errors import StoreError

SETTLED_AFTER_S: Final = 5.0
"""If a passing error ends a session that lasted longer than this, the pause after it is the shortest one again."""

LOOK_EVERY_S: Final = 1.0  # between two looks at the consumers, the user's permissions, and a service's stream

LOOK_ANSWER_S: Final = 5.0
"""How long a look waits for the broker's answer: longer than a stall that the service lets pass."""

PROBE_EVERY: Final = 10  # looks: one of so many probes facts and dead letters, which live subscribers get to see

PASSING: Final = (SessionEnded, OSError, NatsError, StoreError, StoreUnavailable)
"""Errors that end a session and usually pass by themselves. After any other error the pause is the longest one."""


class Supervisor:
    """Runs the sessions of one service or read model, one after another, until `stopping` is set."""

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
        """`name` is the name that the connections have at the broker. `backoff` gives the pauses between sessions."""
        self._name = name
        self._settings = settings
        self._supervised = supervised
        self._dead_letters = dead_letters
        self._backoff = backoff
        self._connect = connect
        self._current: tuple[BrokerClient, ConsumerSession] | None = None
        self._streams: Sequence[str] = (EVENTS,)
        self._lost = asyncio.Event()
        self.stopping = asyncio.Event()
        """Set it to make `run` return once the current session has ended. A session that is connecting ends at once;
        one that is connected, only when one of its tasks ends."""
        self.counts = SessionCounts()
        self.reason = "not connected yet"
        """Why the last session that failed did so, in words."""

    @property
    def connection(self) -> BrokerClient | None:
        """The connection for reads of the stream on demand; None while there is no session."""
        return None if self._current is None or self._lost.is_set() else self._current[0]

    @property
    def streams(self) -> Sequence[str]:
        """The names of the generations that are not archived, the newest first, by the last look; before it, EVENTS.

        If all are archived, the newest; if the archive cannot be used, all.
        """
        first = 0
        with contextlib.suppress(BrokerMisconfigured):  # the next look says so
            first = first_kept(self._settings)
        return [name for name in self._streams if (number_of(name) or 0) >= first] or self._streams[:1]

    @property
    def retry_queue(self) -> RetryQueue | None:
        """The retry queue for operators' requests about dead letters; None while there is no session."""
        return None if self._current is None or self._lost.is_set() else self._current[1].retry_queue

    @property
    def trouble(self) -> str | None:
        """Why nothing, or not everything, is consumed, in words; None: there is a session, with no consumer paused."""
        if self._current is None or self._lost.is_set():
            return f"no session with the broker: {self.reason}"
        return self._current[1].paused

    @property
    def consumers(self) -> Sequence[DurableConsumer]:
        """The consumers of the present session; empty while there is none."""
        return () if self._current is None else self._current[1].consumers

    @property
    def denied(self) -> Sequence[str]:
        """What the broker denied the present session, such as `publish to $JS.API.…`: things it can do without."""
        return () if self._current is None else self._current[0].denied

    async def run(self) -> None:
        """Run session after session; return once `stopping` is set and the current session has ended.

        An error of a session is not raised: `supervised.session_failed` gets it.
        """
        loop = asyncio.get_running_loop()
        while not self.stopping.is_set():
            began = loop.time()
            try:
                await self._session()
                self._backoff.reset()
                self.counts.outcomes["ended"] += 1
            except Exception as error:
                if not isinstance(error, PASSING):
                    self._backoff.longest()
                elif loop.time() - began > SETTLED_AFTER_S:
                    self._backoff.reset()
                self.counts.outcomes["lost" if isinstance(error, PASSING) else "failed"] += 1
                pause_s = self._backoff.next_s()
                self.reason = _reason(error)
                self._supervised.session_failed(error, self.reason, pause_s)
            else:
                pause_s = self._backoff.next_s()
            await wait(self.stopping, pause_s)

    async def _session(self) -> None:
        """Run one session until its first task ends. Raises the task's error, or the one that prevented the session.

        In their place raises BrokerMisconfigured if only an operator can help.
        """
        async with self._connect(self._settings, self._name, self.stopping) as (nc, self._lost):
            try:
                await self._session_over(nc)
            except Exception as error:
                if nc.denied and (isinstance(error, TimeoutError) or any(map(is_needed, nc.denied))):
                    raise denied(nc.denied) from error
                if told := misconfigured(error):
                    raise told from error
                raise
            finally:
                self.counts.add_denied(nc.denied)

    async def _session_over(self, nc: BrokerClient) -> None:
        check_payload(nc)
        js = nc.jetstream(timeout=CONNECT_TIMEOUT_S)
        generations = await ensure_generations(nc, js, self._settings)
        self._streams = generations.names
        async with self._supervised.session(Connection(nc, js, generations)) as session:
            consumer = session.consumer
            try:
                # After the consumer was taken over: another session may have written dead letters until then.
                await self._dead_letters.open(nc)
                await self._look(nc, js, session, generations, session.facts)
                looking = nc.jetstream(timeout=LOOK_ANSWER_S)
                self._current = nc, consumer
                await first_of(
                    consumer.run(),
                    self._watch(nc, looking, session, generations),
                    *(task() for task in session.tasks),
                    _raise_when(self._lost),
                )
            finally:
                self._current = None
                consumer.close()
                self.counts.add_redelivered(consumer.consumers)

    async def _watch(self, nc: BrokerClient, js: JetStreamContext, session: Session, generations: Generations) -> None:
        """Look at generations and consumers, LOOK_EVERY_S seconds after the look before. Ends only by an error."""
        for number in itertools.count(1):
            await asyncio.sleep(LOOK_EVERY_S)
            for made in await generations.look(js, LOOK_ANSWER_S):
                await session.made(made)
            self._streams = generations.names
            await self._look(nc, js, session, generations, session.facts if number % PROBE_EVERY == 0 else None)

    async def _look(
        self,
        nc: BrokerClient,
        js: JetStreamContext,
        session: Session,
        generations: Generations,
        facts: Sequence[str] | None,
    ) -> None:
        """Look at the consumers, and whether the user may acknowledge, pull, and publish `facts` and dead letters.

        `facts` None: the last two are not probed. Raises BrokerMisconfigured, ConsumerFailed, the client's errors.
        """
        consumer, begin = session.consumer, prefix(generations.number)
        places = [one.place for one in consumer.consumers if not one.retired]
        await publish_probes(nc, consumer.listener, places, facts and [begin + fact for fact in facts])
        await consumer.look(js, generations.sealed)  # its answer comes after any denial
        if any(map(is_needed, nc.denied)):
            raise denied(nc.denied)


async def _raise_when(lost: asyncio.Event) -> None:
    await lost.wait()
    raise ConnectionLost("connection lost")


def _reason(error: Exception) -> str:
    if isinstance(error, (*PASSING, BrokerError)):
        return describe(error)
    return f"{type(error).__name__}: {error}"
