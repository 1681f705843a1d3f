"""Read models of other services' facts: fed from the stream EVENTS by a durable consumer of their own.

The stream may hold a fact twice, and after a repair an effect before its cause. So the projection of such a view must
come to the same tables in any order and with any repeats. A checkpoint counts only as long as the stream still has the
message that was read there. Otherwise the view reads the stream again from its beginning.
"""

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from contracts.fact import Fact
from contracts.origin import ForeignMessage, origin
from infra.aio import Backoff
from infra.broker.connection import Connect, connect
from infra.broker.consumers import ensure_consumer_at
from infra.broker.errors import BrokerMisconfigured
from infra.broker.leader import Leader
from infra.broker.streams import EVENTS
from infra.broker.troubles import describe
from infra.broker.truncation import ReceivedPositions
from infra.consuming.consumer import ConsumerSession
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.supervisor import PASSING, Connection, Session, Supervisor
from infra.core.errors import StoreUnavailable
from infra.core.messages import Acknowledger, Delivery, StreamPosition
from infra.core.unit_of_work import Outcome
from infra.read_models.tables import CHUNK, START, Checkpoint, Projection, Tables, ViewBehind
from infra.settings import Settings
from infra.store.records import Notification

logger = structlog.get_logger()

FIRST_BACKOFF_S: Final = 0.25
LONGEST_BACKOFF_S: Final = 5.0
LAG_S: Final = 0.25
"""The pause between two transactions of a view that has caught up: fewer and larger ones cost less."""
FEW: Final = 256
"""After a chunk of fewer messages than this, the view pauses for LAG_S unless more messages wait already."""

NO_MESSAGES_FAULT: Final = (sqlite3.OperationalError, sqlite3.InternalError)
"""Errors of SQLite that end the session, such as a full disk: the same message may succeed in the next one."""


class StreamView:
    """Keeps one projection's tables up to date from EVENTS (by `run`); the `Handler` of its consumer's sessions."""

    def __init__(
        self, projection: Projection, service: str, settings: Settings, tables: Tables, connect: Connect = connect
    ) -> None:
        self._projection = projection
        self.consumer = f"{service}-{projection.name}"
        self._tables = tables
        self._tables_free = asyncio.Lock()
        self.dead_letters = DeadLetters(self.consumer, settings)
        backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
        self.supervisor = Supervisor(self.consumer, settings, self, self.dead_letters, backoff=backoff, connect=connect)
        self._queue: deque[tuple[Delivery, Acknowledger]] = deque()
        self._arrived = asyncio.Event()
        self._drop = asyncio.Event()
        """Set from the request to rebuild until the tables are empty."""
        self._js: JetStreamContext | None = None
        self._to_catch_up = 0
        """Messages for this view that EVENTS had when the session began, less those applied since; can be negative."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, projection: Projection, service: str, settings: Settings, folder: Path, connect: Connect = connect
    ) -> AsyncIterator["StreamView"]:
        """Open the view's file in this folder, made if missing, and close it at the end. Raises StoreSetupError."""
        async with Tables.open(projection, folder) as tables:
            yield cls(projection, service, settings, tables, connect)

    # For readers and operators ----------------------------------------------------------------------------------------

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run this SQL on tables that may lag EVENTS. Raises ViewBehind while they are incomplete, or SQLite fails."""
        if self._drop.is_set() or not self._tables.complete:
            raise ViewBehind(f"the view {self._projection.name} is being built")
        try:
            return await self._tables.select(sql, parameters)
        except sqlite3.Error as error:
            raise ViewBehind(f"the view {self._projection.name} cannot be read: {error}") from error

    async def behind(self) -> int:
        """Count the messages not read yet. Raises ViewBehind if no broker can tell, or a rebuild is to begin."""
        if self._js is None or self._drop.is_set():
            why = "about to be rebuilt" if self._drop.is_set() else self.supervisor.reason
            raise ViewBehind(f"the view {self._projection.name} is not following: {why}")
        try:
            info = await self._js.consumer_info(EVENTS, self.consumer)
        except (OSError, NatsError) as error:
            raise ViewBehind(f"the view {self._projection.name} is not following: {describe(error)}") from error
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    def rebuild(self) -> None:
        """Ask `run` to make the tables anew from all of EVENTS; return at once. Reads raise ViewBehind meanwhile."""
        self._drop.set()

    def log_has_grown(self) -> None:
        """Do nothing: this view does not follow the service's own log."""

    # Sessions ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run session after session, until canceled. Raises nothing: a failure affects only the view's readers."""
        await self.supervisor.run()

    @contextlib.asynccontextmanager
    async def session(self, connection: Connection) -> AsyncIterator[Session]:
        nc, js, stream = connection
        try:
            if self._drop.is_set():
                logger.info("rebuilding a view", view=self._projection.name)
                await self._tables.clear()
                self._drop.clear()
            checkpoint = await self._resume_position(Leader(nc, stream))
            consumer = ConsumerSession(self.consumer, nc, self, ReceivedPositions(), self.dead_letters)
            await ensure_consumer_at(
                js, self.consumer, self._projection.topics, checkpoint.position + 1, take_over=consumer.take_over
            )
            self._to_catch_up = (await js.consumer_info(EVENTS, self.consumer)).num_pending or 0
            if self._to_catch_up == 0:
                await self._caught_up()
            self._queue.clear()
            self._arrived.clear()
            self._js = js
            yield Session(consumer, (self._apply, self._until_dropped))
        finally:
            self._js = None
            await self._tables.roll_back()

    def session_failed(self, error: Exception, reason: str, again_in_s: float) -> None:
        if isinstance(error, (*PASSING, BrokerMisconfigured)):
            logger.warning("a view lost the stream", view=self._projection.name, reason=reason)
        else:
            logger.error("a view cannot go on", view=self._projection.name, reason=reason, exc_info=error)

    async def _resume_position(self, leader: Leader) -> Checkpoint:
        """Return the checkpoint if EVENTS still has the message that was read there; otherwise START, and log it."""
        checkpoint, received = self._tables.checkpoint, ReceivedPositions()
        if checkpoint != START:
            received.add(StreamPosition(*checkpoint))
        if await received.truncated_after(leader) is None:
            return checkpoint
        logger.warning(
            "the stream was replaced or truncated: the view reads it again from the beginning",
            view=self._projection.name,
        )
        return START

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
            last, acknowledger = batch[-1]
            try:
                await self._feed([delivery for delivery, _ in batch], Checkpoint(*last.position))
            except NO_MESSAGES_FAULT:
                raise
            except Exception:
                await self._feed_alone([delivery for delivery, _ in batch])
            acknowledger.handled(last)
            self._to_catch_up -= len(batch)
            if self._to_catch_up <= 0:
                await self._caught_up()
            if not self._queue:
                self._arrived.clear()
                if len(batch) < FEW:
                    await asyncio.sleep(LAG_S)

    async def _caught_up(self) -> None:
        async with self._tables_free:
            await self._tables.caught_up()

    async def _feed(self, messages: Sequence[Delivery], checkpoint: Checkpoint | None) -> None:
        """Feed the messages, and set the checkpoint; None: it stays."""
        records = _records(messages)
        async with self._tables_free:
            try:
                await self._tables.apply(records, checkpoint or self._tables.checkpoint)
            except BaseException:
                await self._tables.roll_back()
                raise

    async def _feed_alone(self, messages: Sequence[Delivery]) -> None:
        """Feed each message alone. One that the projection rejects becomes a dead letter: a retry would not help."""
        for delivery in messages:
            try:
                await self._feed([delivery], Checkpoint(*delivery.position))
            except NO_MESSAGES_FAULT:
                raise
            except Exception as error:
                await self.dead_letters.add(delivery, error, attempts=1)

    async def attempt(self, delivery: Delivery) -> Sequence[Fact]:
        """Feed a dead letter's message out of its order, which a projection of the stream allows; return no facts."""
        try:
            await self._feed([delivery], None)
        except NO_MESSAGES_FAULT as error:
            raise StoreUnavailable(str(error)) from error
        return ()

    async def preview(self, messages: Sequence[Delivery]) -> list[Outcome]:
        """Try the projection alone, without SQL: () for each message that it takes, up to the first error, included."""
        outcomes: list[Outcome] = []
        for delivery in messages:
            try:
                list(self._projection.apply(_records([delivery])))
            except Exception as error:
                return [*outcomes, error]
            outcomes.append(())
        return outcomes


def _records(messages: Sequence[Delivery]) -> list[Notification]:
    """Return the facts as a projection reads them, at their sequences in EVENTS. Foreign messages are passed over."""
    records, foreign = [], []
    for delivery in messages:
        sequence, subject = delivery.position.sequence, delivery.subject
        try:
            stream, version, _ = origin(subject, delivery.fact_id, delivery.raw_headers, delivery.body)
        except ForeignMessage as why:
            foreign.append(f"{sequence} ({subject}) {why}")
        else:
            records.append(Notification(sequence, stream, version, subject.rpartition(".")[0], delivery.body))
    if foreign:
        logger.warning("foreign messages are passed over", messages=len(foreign), first=foreign[0])
    return records
