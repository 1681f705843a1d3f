"""The one writer of a service: whatever has arrived is decided and recorded together, in one transaction.

Messages from the broker and requests from clients wait in one queue and share one commit, so the disk is asked once per
batch. Nothing is answered or acknowledged before its batch is recorded; a crash anywhere in between repeats work that
the aggregates recognise.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import structlog

from contracts.fact import Fact
from contracts.wire import decode
from infra.core.decider import Aggregates, Batch, Command
from infra.core.errors import Busy, StoreUnavailable
from infra.core.messages import Acknowledger, Delivery
from infra.core.state_cache import StreamUnreadable
from infra.core.unit_of_work import Answer, Commands, Delivered, Outcome, Requested, Unhandled, UnitOfWork, Work
from infra.store.event_store import EventStore, StoreError

logger = structlog.get_logger()

MAX_BATCH: Final = 128
"""Commands decided in one go: what keeps the event loop responsive (about 5 ms)."""

FEW: Final = 24  # commands
PACE_S: Final = 0.003
"""A batch of few waits until the one before it began this long ago: a commit, and all that follows it, costs far more
than what one command more adds to it. Whoever comes alone does not wait."""

MAX_WAITING_REQUESTS: Final = 4_096
"""Requests waiting for their commit; more are turned away. Messages are bounded by the consumer's max_ack_pending."""

LOOK_AGAIN_S: Final = 1.0
"""After this a store that failed is asked what it has recorded, if nobody wants anything of it earlier."""

Reactions = Mapping[type[Fact], Callable[[Any, datetime, str], Command]]
"""Fact type → command, made of (fact, now, fact id)."""

Clock = Callable[[], datetime]


class Writer:
    def __init__(
        self,
        aggregates: Aggregates,
        reactions: Reactions,
        store: EventStore,
        clock: Clock,
        recorded: Callable[[Sequence[Fact]], None],
    ) -> None:
        """`recorded` is called after each commit with its facts in log order, before anybody is answered."""
        self._reactions = reactions
        self._clock = clock
        self._recorded = recorded
        self._unit_of_work = UnitOfWork(aggregates, store)
        self._queue: deque[Work] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._suspended_because: str | None = None
        self._unreadable = False

    def suspend(self, because: str, *, reads_too: bool = False) -> None:
        """Record no request from now on, and show nothing with `reads_too`: this may be, or is, the wrong store."""
        self._suspended_because = because
        self._unreadable = reads_too

    def resume(self) -> None:
        self._suspended_because = None
        self._unreadable = False

    # Into the queue ---------------------------------------------------------------------------------------------------

    def handle(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        """Take a delivery; `acknowledger` learns what becomes of it."""
        self._put(Delivered(delivery, acknowledger))

    async def execute(self, command: Command) -> Answer:
        """Decide and record a request's command.

        Raises Busy, StoreUnavailable, or what the aggregate's decide raises: nothing was recorded then.
        """
        if self._suspended_because is not None:
            raise StoreUnavailable(self._suspended_because)
        if len(self._queue) >= MAX_WAITING_REQUESTS:
            raise Busy
        try:
            return await self._execute(command)
        except StreamUnreadable as error:
            raise StoreUnavailable(str(error)) from error

    async def attempt(self, delivery: Delivery) -> Sequence[Fact]:
        """Decide and record what follows from one message that waited: its facts.

        Raises StoreUnavailable, or what stands in the way: nothing was recorded then.
        """
        command = self._react(delivery, self._clock())
        return () if command is None else (await self._execute(command)).facts

    async def preview(self, messages: Sequence[Delivery]) -> list[Outcome]:
        """What `attempt` of these, one after another, would give as of now: up to the first that cannot be handled."""
        dry_run = self._unit_of_work.dry_run()
        outcomes: list[Outcome] = []
        for delivery in messages:
            try:
                command = self._react(delivery, self._clock())
                if command is None:
                    outcomes.append(())
                    continue
                outcomes.append(await dry_run(command))
            except Exception as error:  # whatever it is: this is asked in order to know it
                outcomes.append(error)
                break
        return outcomes

    async def _execute(self, command: Command) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._put(Requested(command, answer))
        return await answer

    @property
    def waiting(self) -> int:
        """Requests and deliveries that wait to be decided."""
        return len(self._queue)

    def _put(self, work: Work) -> None:
        self._queue.append(work)
        self._idle.clear()
        self._arrived.set()

    async def read(self, streams: Sequence[str]) -> list[Any]:
        """The recorded states of these streams, in this order: a read after an answer sees what was answered.

        Raises StoreUnavailable.
        """
        if self._unreadable:
            raise StoreUnavailable(str(self._suspended_because))
        try:
            found = await self._unit_of_work.state_cache.get(streams)
        except StoreError as error:
            raise StoreUnavailable(str(error)) from error
        return [found[stream].state for stream in streams]

    async def drained(self) -> None:
        """Returns when nothing is waiting to be recorded."""
        await self._idle.wait()

    # Out of it --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        loop, began = asyncio.get_running_loop(), float("-inf")
        while True:
            await self._something_to_do()
            if len(self._queue) < FEW and (left_s := began + PACE_S - loop.time()) > 0:
                await asyncio.sleep(left_s)
            began = loop.time()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            try:
                if facts := await self._unit_of_work.resolve_doubt():
                    self._recorded(facts)
                await self._settle(batch)
            except StoreError as error:
                logger.error("store failed", error=str(error), batch=len(batch))
                self._give_up(batch, error)
            if not self._queue:
                self._arrived.clear()
                self._idle.set()

    async def _something_to_do(self) -> None:
        if not self._unit_of_work.in_doubt:
            await self._arrived.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S):
                await self._arrived.wait()

    async def _settle(self, batch: Sequence[Work]) -> None:
        work, decided, outcomes = await self._decided_and_recorded(batch)
        for (_, source), outcome in zip(work, outcomes, strict=True):
            if isinstance(outcome, Exception):
                _refuse(source, outcome)
        snapshots = self._unit_of_work.publish_states(decided)
        if decided.facts:
            self._recorded(decided.facts)
        await self._unit_of_work.save_snapshots(snapshots)
        for (command, source), outcome in zip(work, outcomes, strict=True):
            if isinstance(source, Requested) and not source.answer.done() and not isinstance(outcome, Exception):
                source.answer.set_result(Answer(outcome, decided.states(command.streams)))
        # One receipt covers all deliveries before it but those that wait; an ear that has closed wants none.
        last = next((source for source in reversed(batch) if isinstance(source, Delivered)), None)
        if last and not last.acknowledger.closed:
            last.acknowledger.handled(last.delivery)

    async def _decided_and_recorded(self, batch: Sequence[Work]) -> tuple[Commands, Batch, list[Outcome]]:
        """What the batch wanted and what came of it; without what nobody can handle, and what has to wait for that.

        It goes back before anything is recorded, and the rest is decided anew: what is about the same order must not
        overtake it.
        """
        left = [source for source in batch if not _goes_back(source)]
        while True:
            try:
                work = self._commands(left)
                return work, *await self._unit_of_work.record(work)
            except Unhandled as unhandled:
                _refuse(unhandled.source, unhandled.error)
                at = next(n for n, source in enumerate(left) if source is unhandled.source)
                left[at:] = [source for source in left[at + 1 :] if not _goes_back(source)]

    def _commands(self, batch: Sequence[Work]) -> Commands:
        """What each piece of work wants decided. Raises Unhandled."""
        now = self._clock()
        commands: Commands = []
        for source in batch:
            if isinstance(source, Requested):
                commands.append((source.command, source))
                continue
            try:
                command = self._react(source.delivery, now)
            except Exception as error:  # no message can say in how many ways it will not be understood
                raise Unhandled(source, error) from error
            if command is not None:
                commands.append((command, source))
        return commands

    def _react(self, delivery: Delivery, now: datetime) -> Command | None:
        fact = decode(delivery.body)
        reaction = self._reactions.get(type(fact))
        if reaction is None:
            logger.debug("ignored: no reaction to this fact", fact=type(fact).__name__, fact_id=delivery.fact_id)
            return None
        return reaction(fact, now, delivery.fact_id)

    def _give_up(self, batch: Sequence[Work], error: StoreError) -> None:
        for source in batch:
            if isinstance(source, Delivered):
                source.acknowledger.failed(error)
            elif not source.answer.done():
                source.answer.set_exception(StoreUnavailable(str(error)))


def _goes_back(source: Work) -> bool:
    """A delivery that nobody waits for any more, or one that has to wait itself."""
    return isinstance(source, Delivered) and (source.acknowledger.closed or source.acknowledger.defers(source.delivery))


def _refuse(source: Work, error: Exception) -> None:
    if isinstance(source, Delivered):
        source.acknowledger.rejected(source.delivery, error)
    elif not source.answer.done():
        source.answer.set_exception(error)
