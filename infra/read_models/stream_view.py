"""Read models of other services' facts: fed from the archive, and by durable consumers of their own on each generation.

The stream may hold a fact twice, and a view may hear an effect before its cause. So the projection of such a view must
come to the same tables in any order and with any repeats. The checkpoint of a consumer counts only as long as its
generation still has the message that was read there. Otherwise the consumer begins at the generation's first message.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from contracts.fact import Fact
from infra.aio import Backoff
from infra.broker.connection import Connect, connect
from infra.broker.consumers import consumer_names
from infra.broker.errors import BrokerMisconfigured
from infra.broker.floor import archive_of
from infra.broker.leader import Leader
from infra.broker.troubles import describe
from infra.consuming.consumer_session import ConsumerSession
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.supervised import Connection, Session
from infra.consuming.supervisor import PASSING, Supervisor
from infra.core.errors import StoreUnavailable
from infra.core.messages import Acknowledger, Delivery
from infra.core.unit_of_work import Outcome
from infra.read_models.archived import ArchivedFacts
from infra.read_models.delivered import facts_in
from infra.read_models.errors import Rejected, ViewBehind
from infra.read_models.tables import CHUNK, Checkpoint, Projection, Tables
from infra.read_models.view_consumers import ViewConsumers
from infra.settings import Settings
from infra.store.errors import StoreError

logger = structlog.get_logger()

FIRST_BACKOFF_S: Final = 0.25
LONGEST_BACKOFF_S: Final = 5.0
LAG_S: Final = 0.25
"""The pause between two transactions of a view that has caught up: fewer and larger ones cost less."""
FEW: Final = 256
"""After a chunk of fewer messages than this, the view pauses for LAG_S unless more messages wait already."""


class StreamView:
    """Keeps a projection's tables up to date from archive and stream (by `run`); the `Handler` of its sessions."""

    def __init__(
        self, projection: Projection, service: str, settings: Settings, tables: Tables, connect: Connect = connect
    ) -> None:
        self._projection = projection
        self.listener = f"{service}-{projection.name}"
        self._consumers = ViewConsumers(projection, self.listener, tables, settings)
        self.archived = ArchivedFacts(archive_of(settings), consumer_names(self.listener, projection.topics), tables)
        """What the archive has for the view that it has not read."""
        self._tables = tables
        self._tables_free = asyncio.Lock()
        self.dead_letters = DeadLetters(self.listener, settings)
        backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
        self.supervisor = Supervisor(self.listener, settings, self, self.dead_letters, backoff=backoff, connect=connect)
        self._queue: deque[tuple[Delivery, Acknowledger]] = deque()
        self._arrived = asyncio.Event()
        self._drop = asyncio.Event()
        """Set from the request to rebuild until the tables are empty."""
        self._js: JetStreamContext | None = None
        self._to_catch_up = 0
        """Messages for this view that EVENTS had when the session began, less those handled since; can be negative."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, projection: Projection, service: str, settings: Settings, folder: Path, connect: Connect = connect
    ) -> AsyncIterator["StreamView"]:
        """Open the view's file in this folder, made if missing; yield the view, and close the file at the end.

        The caller has to start `run`. Raises StoreSetupError if the file cannot be used.
        """
        async with Tables.open(projection, folder) as tables:
            yield cls(projection, service, settings, tables, connect)

    # For readers and operators ----------------------------------------------------------------------------------------

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run this SQL on tables that may lag EVENTS; return its rows.

        Raises ViewBehind while the tables are incomplete, about to be rebuilt, or cannot be read.
        """
        if self._drop.is_set() or not self._tables.complete:
            raise ViewBehind(f"the view {self._projection.name} is being built")
        try:
            return await self._tables.select(sql, parameters)
        except StoreError as error:
            raise ViewBehind(f"the view {self._projection.name} cannot be read: {error.__cause__}") from error

    async def behind(self) -> int:
        """Count the unread messages, roughly. Raises ViewBehind if no broker can tell, or a rebuild is to begin."""
        if self._js is None or self._drop.is_set():
            why = "about to be rebuilt" if self._drop.is_set() else self.supervisor.reason
            raise ViewBehind(f"the view {self._projection.name} is not following: {why}")
        try:
            return self.archived.left + await self._consumers.waiting(self._js)
        except (OSError, NatsError) as error:
            raise ViewBehind(f"the view {self._projection.name} is not following: {describe(error)}") from error

    def rebuild(self) -> None:
        """Ask `run` to feed new tables from archive and stream; return at once. `select` fails until they are fed."""
        self._drop.set()

    def log_has_grown(self) -> None:
        """Do nothing: this view does not follow the service's own log."""

    # Sessions ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run session after session, until canceled. Raises nothing: a failure affects only the view's readers."""
        await self.supervisor.run()

    @contextlib.asynccontextmanager
    async def session(self, connection: Connection) -> AsyncIterator[Session]:
        nc, js, generations = connection

        async def made(info: StreamInfo) -> None:
            self._to_catch_up += await self._consumers.hear(js, Leader(nc, info), consumer)

        try:
            if self._drop.is_set():
                logger.info("rebuilding a view", view=self._projection.name)
                await self._tables.clear()
                self._drop.clear()
            consumer = ConsumerSession(self.listener, nc, self, {}, self.dead_letters)
            leaders = [Leader(nc, info) for info in generations.infos]
            self._to_catch_up = await self._consumers.hear_all(js, leaders, generations.sealed, consumer)
            await self.archived.look()
            await self._if_caught_up()
            self._queue.clear()
            self._arrived.clear()
            self._js = js
            yield Session(consumer, (self._apply, self._read_archive, self._until_dropped), made)
        finally:
            self._js = None
            await self._tables.roll_back()

    def session_failed(self, error: Exception, reason: str, again_in_s: float) -> None:
        if isinstance(error, StoreError):
            logger.error("a view cannot write its file; trying again", view=self._projection.name, reason=reason)
        elif isinstance(error, (*PASSING, BrokerMisconfigured)):
            logger.warning("a view lost the stream", view=self._projection.name, reason=reason)
        else:
            logger.error("a view cannot go on", view=self._projection.name, reason=reason, exc_info=error)

    async def _until_dropped(self) -> None:
        """Wait until a rebuild is requested; then return, which ends the session."""
        await self._drop.wait()

    # Feeding the tables -----------------------------------------------------------------------------------------------

    def handle(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        self._queue.append((delivery, acknowledger))
        self._arrived.set()

    async def _apply(self) -> None:
        while True:
            await self._arrived.wait()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), CHUNK))]
            last = {acknowledger: delivery for delivery, acknowledger in batch}
            read = {one.name: Checkpoint(*delivery.position) for one, delivery in last.items()}
            await self._take([delivery for delivery, _ in batch], read)
            for acknowledger, delivery in last.items():
                acknowledger.handled(delivery)
            self._to_catch_up -= len(batch)
            await self._if_caught_up()
            if not self._queue:
                self._arrived.clear()
                if len(batch) < FEW:
                    await asyncio.sleep(LAG_S)

    async def _if_caught_up(self) -> None:
        if self._to_catch_up <= 0 and not self.archived.left:
            async with self._tables_free:
                await self._tables.caught_up()

    async def _read_archive(self) -> None:
        """Feed what is archived and was not read before, beside what the consumers deliver; then wait. Never returns.

        A projection of the stream takes facts in any order, and repeats.
        """
        async for messages, read in self.archived.chunks():
            await self._take(messages, read)
        await self._if_caught_up()
        await asyncio.Event().wait()

    async def _take(self, messages: Sequence[Delivery], read: Mapping[str, Checkpoint]) -> None:
        """Feed the messages, and set the checkpoints in `read`, by consumer, even if a message is rejected.

        A message that the projection rejects becomes a dead letter: a retry would not help. An error of the file ends
        the session instead: the same messages may succeed in a later one.
        """
        try:
            await self._feed(messages, read)
        except Rejected:
            for one in messages:
                try:
                    await self._feed([one], {})
                except Rejected as rejected:
                    await self.dead_letters.add(one, rejected.error, attempts=1)
            await self._feed([], read)

    async def _feed(self, messages: Sequence[Delivery], read: Mapping[str, Checkpoint]) -> None:
        """Feed the messages, and set these checkpoints, by consumer; if that fails, roll back, and raise the error."""
        records = facts_in(messages)
        async with self._tables_free:
            try:
                await self._tables.apply(records, read=read)
            except BaseException:
                await self._tables.roll_back()
                raise

    async def attempt(self, delivery: Delivery) -> Sequence[Fact]:
        """Feed a dead letter's message, out of its order: a projection of the stream allows that. Return no facts.

        Raises StoreUnavailable if the file cannot be written now; the error for which the message is rejected.
        """
        try:
            await self._feed([delivery], {})
        except StoreError as error:
            raise StoreUnavailable(str(error)) from error
        except Rejected as rejected:
            raise rejected.error from None
        return ()

    async def preview(self, messages: Sequence[Delivery]) -> list[Outcome]:
        """Return () for each message up to the projection's first error, then that error, if any. Execute no SQL."""
        outcomes: list[Outcome] = []
        for delivery in messages:
            try:
                list(self._projection.apply(facts_in([delivery])))
            except Exception as error:
                return [*outcomes, error]
            outcomes.append(())
        return outcomes
