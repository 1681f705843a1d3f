"""Read models of what other services said: fed from the stream EVENTS by a durable consumer of their own.

In the stream a fact may stand twice, and after a repair an effect before its cause; so the projection of such a view
must come to the same tables whatever is applied again, and in whatever order. A place in the stream counts only as long
as what was read there still stands there; otherwise the view hears everything again.
"""

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from contracts.fact import Fact
from infra.broker.connection import CONNECT_TIMEOUT_S, connect, describe
from infra.broker.consumers import ensure_consumer_at
from infra.broker.errors import ConnectionLost, SessionEnded, StreamMisconfigured
from infra.broker.streams import EVENTS, ensure_stream
from infra.broker.truncation import ReceivedPositions
from infra.consuming.consumer import ConsumerSession
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.retry_queue import FailureHandling, RetryQueue
from infra.core.messages import Acknowledger, Delivery, StreamPosition
from infra.core.unit_of_work import Outcome
from infra.read_models.log_view import CHUNK
from infra.read_models.tables import START, Checkpoint, Projection, Tables, ViewBehind
from infra.settings import Settings
from infra.store.records import Notification

logger = structlog.get_logger()

PAUSE_S: Final = 0.25  # between sessions, and between transactions once the view has caught up
FEW: Final = 256  # facts at a time: nothing piles up, and a pause makes fewer and larger transactions
LONGEST_PAUSE_S: Final = 5.0

CANNOT_GO_ON: Final = (sqlite3.OperationalError, sqlite3.InternalError)
"""What no message is to blame for."""


class _Typed(msgspec.Struct):
    type: str


_typed = msgspec.json.Decoder(_Typed)


class StreamView:
    """One projection's tables, following the stream; the `Handler` of its sessions."""

    def __init__(self, projection: Projection, service: str, settings: Settings, tables: Tables) -> None:
        self._projection = projection
        self.consumer = f"{service}-{projection.name}"
        self._settings = settings
        self._tables = tables
        self._tables_free = asyncio.Lock()
        self.letters = DeadLetters(self.consumer, settings)
        self.retry_queue: RetryQueue | None = None
        """Where operators have dead letters handled; None while there is no session."""
        self._queue: deque[tuple[Delivery, Acknowledger]] = deque()
        self._arrived = asyncio.Event()
        self._drop = asyncio.Event()
        self._js: JetStreamContext | None = None
        self._to_catch_up = 0
        """Facts that stood in the stream when the session began, and have not been read in it."""
        self._trouble = "not connected yet"

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, projection: Projection, service: str, settings: Settings, folder: Path
    ) -> AsyncIterator["StreamView"]:
        """The view in this folder, made if missing. Raises StoreSetupError."""
        async with Tables.open(projection, folder) as tables:
            yield cls(projection, service, settings, tables)

    # What readers ask -------------------------------------------------------------------------------------------------

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the view as it is: it trails the stream. Raises ViewBehind until it has caught up once."""
        if self._drop.is_set() or not self._tables.whole:
            raise ViewBehind(f"the view {self._projection.name} is being built")
        try:
            return await self._tables.select(sql, parameters)
        except sqlite3.Error as error:
            raise ViewBehind(f"the view {self._projection.name} cannot be read: {error}") from error

    async def behind(self) -> int:
        """How many facts of the stream it has yet to read. Raises ViewBehind if the broker does not say."""
        if self._js is None or self._drop.is_set():
            raise ViewBehind(f"the view {self._projection.name} is not following: {self._trouble}")
        try:
            info = await self._js.consumer_info(EVENTS, self.consumer)
        except (OSError, NatsError) as error:
            raise ViewBehind(f"the view {self._projection.name} is not following: {describe(error)}") from error
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    def rebuild(self) -> None:
        """Drop the tables and feed them again from the stream's beginning; readers are refused meanwhile."""
        self._trouble = "about to be rebuilt"
        self._drop.set()

    def log_has_grown(self) -> None:
        """The service's own log is none of its business."""

    # Listening --------------------------------------------------------------------------------------------------------

    def handle(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        self._queue.append((delivery, acknowledger))
        self._arrived.set()

    async def run(self) -> None:
        """Session after session: whatever fails is begun anew, and nobody but the view's readers notices."""
        pause_s = PAUSE_S
        while True:
            try:
                await self._session()
                pause_s = PAUSE_S
            except (OSError, NatsError, SessionEnded, StreamMisconfigured, sqlite3.Error) as error:
                self._trouble = describe(error)
                logger.warning("a view lost the stream", view=self._projection.name, reason=self._trouble)
            except Exception as error:
                self._trouble = f"{type(error).__name__}: {error}"
                logger.exception("a view cannot go on", view=self._projection.name)
            await self._tables.forget_half_done()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _session(self) -> None:
        """Until something fails, or until the view is to be rebuilt."""
        if self._drop.is_set():
            logger.info("rebuilding a view", view=self._projection.name)
            await self._tables.clear()
        async with connect(self._settings, self.consumer, asyncio.Event()) as (nc, lost):
            js = nc.jetstream(timeout=CONNECT_TIMEOUT_S)
            await ensure_stream(js, self._settings)
            checkpoint = await self._place(js)
            handling = FailureHandling(self.letters, self._handle, self._preview)
            hearing = ConsumerSession(self.consumer, nc, self, ReceivedPositions(), handling)
            await ensure_consumer_at(
                js, self.consumer, self._projection.topics, checkpoint.position + 1, take_over=hearing.take_over
            )
            self._to_catch_up = (await js.consumer_info(EVENTS, self.consumer)).num_pending or 0
            if self._to_catch_up == 0:
                await self._tables.caught_up()
            self._drop.clear()
            self._queue.clear()
            self._arrived.clear()
            await self.letters.open(js)
            tasks = [
                asyncio.create_task(work) for work in (hearing.run(), self._apply(), lost.wait(), self._drop.wait())
            ]
            self._js, self.retry_queue = js, hearing.retry_queue
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                self._js = self.retry_queue = None
                hearing.closed = True
                hearing.retry_queue.close()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if lost.is_set() and not self._drop.is_set():
            raise ConnectionLost("connection lost")

    async def _place(self, js: JetStreamContext) -> Checkpoint:
        """Where to go on: behind what was read last, if it still stands where it was read."""
        checkpoint = self._tables.checkpoint
        marks = ReceivedPositions()
        if checkpoint != START:
            marks.add(StreamPosition(*checkpoint))
        if await marks.truncated_after(js) is None:
            return checkpoint
        logger.warning(
            "the stream is another one, or lost its end: all of it is heard again", view=self._projection.name
        )
        return START

    async def _apply(self) -> None:
        while True:
            await self._arrived.wait()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), CHUNK))]
            last, acknowledger = batch[-1]
            try:
                await self._feed([delivery for delivery, _ in batch], Checkpoint(*last.position))
            except CANNOT_GO_ON:
                raise
            except Exception:
                await self._feed_alone([delivery for delivery, _ in batch])
            acknowledger.handled(last)
            self._to_catch_up -= len(batch)
            if self._to_catch_up <= 0:
                await self._tables.caught_up()
            if not self._queue:
                self._arrived.clear()
                if len(batch) < FEW:
                    await asyncio.sleep(PAUSE_S)

    async def _feed(self, messages: Sequence[Delivery], checkpoint: Checkpoint) -> None:
        records = [_record(delivery) for delivery in messages if _is_fact(delivery)]
        async with self._tables_free:
            try:
                await self._tables.apply(records, checkpoint)
            except BaseException:
                await self._tables.forget_half_done()
                raise

    async def _feed_alone(self, messages: Sequence[Delivery]) -> None:
        """One of them is of no use to the projection: it is parked. Tried again, it would give the same."""
        for delivery in messages:
            try:
                await self._feed([delivery], Checkpoint(*delivery.position))
            except CANNOT_GO_ON:
                raise
            except Exception as error:
                await self.letters.park(delivery, error, attempts=1)

    async def _handle(self, delivery: Delivery) -> Sequence[Fact]:
        """Feed one that was parked, out of its order: that is nothing to a projection of the stream."""
        await self._feed([delivery], self._tables.checkpoint)
        return ()

    async def _preview(self, messages: Sequence[Delivery]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for delivery in messages:
            try:
                list(self._projection.apply([_record(delivery)]))
            except Exception as error:
                return [*outcomes, error]
            outcomes.append(())
        return outcomes


def _is_fact(delivery: Delivery) -> bool:
    """Whether it has a fact's id; what somebody else wrote has none, or another kind."""
    return delivery.fact_id.rpartition("@")[2].isdecimal()


def _record(delivery: Delivery) -> Notification:
    """The fact as a projection reads it; its position is its sequence in the stream."""
    stream, _, version = delivery.fact_id.rpartition("@")
    return Notification(
        delivery.position.sequence, stream, int(version), _typed.decode(delivery.body).type, delivery.body
    )
