"""The one writer of a service: it decides and records up to `max_batch` commands in one transaction (group commit).

Deliveries from the broker and requests from clients wait in one queue and share one commit, so the facts of a batch
cost one fsync; each snapshot that is due costs one or two more. Nothing is acknowledged, and no success answered,
before its batch is recorded. A crash in between repeats work, which the aggregates recognise.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from contracts.fact import Fact
from contracts.origin import heard
from infra.aio import wait
from infra.core import unit_of_work
from infra.core.decider import Aggregates, Batch, Command
from infra.core.errors import Busy, StoreUnavailable, StreamUnavailable, StreamUnreadable
from infra.core.limits import WriterLimits
from infra.core.messages import Acknowledger, Delivery
from infra.core.results import acknowledge, defers, fail, refuse
from infra.core.unit_of_work import Answer, Commands, Delivered, Outcome, Requested, Unhandled, UnitOfWork, Work
from infra.request_span import current
from infra.store.errors import StoreError
from infra.store.event_store import EventStore
from infra.store.records import Record

logger = structlog.get_logger()

Reactions = Mapping[type[Fact], Callable[[Any, datetime, str], Command]]
"""By fact type: the function that makes the command from (fact, now, fact id); `now` is in UTC."""

Clock = Callable[[], datetime]


class Writer:
    """Decides and records all commands of a service. `handle`, `execute` and `attempt` queue work for `run`."""

    def __init__(
        self,
        aggregates: Aggregates,
        reactions: Reactions,
        store: EventStore,
        clock: Clock,
        recorded: Callable[[Sequence[Fact]], None],
        *,
        limits: WriterLimits = WriterLimits(),  # noqa: B008  # frozen
        settled: unit_of_work.Settled = unit_of_work.not_measured,
    ) -> None:
        """`recorded` is called after each commit of facts, with these in log order, before any success is answered.

        `settled` measures: see UnitOfWork.
        """
        self._reactions = reactions
        self._clock = clock
        self._recorded = recorded
        self._limits = limits
        self._unit_of_work = UnitOfWork(aggregates, store, limits.snapshot_every, limits.cached_states, settled)
        self._queue: deque[Work] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.unreadable = self._unit_of_work.state_cache.unreadable
        self._suspended_because: str | None = None
        self._unreadable = False
        self.on_settled: list[Callable[[Commands, Sequence[Outcome], Sequence[Record]], None]] = []
        """Each gets a batch that is recorded and answered: its work, their outcomes, and the records of all facts.
        An append that failed and was recorded all the same counts, too; its work was answered with the failure."""

    def suspend(self, because: str, *, reads_too: bool = False) -> None:
        """Until `resume`, let `execute` raise StoreUnavailable(`because`), and with `reads_too` let `read` do so, too.

        Deliveries, retried ones too, and requests already queued are still decided and recorded.
        """
        self._suspended_because = because
        self._unreadable = reads_too

    def resume(self) -> None:
        self._suspended_because, self._unreadable = None, False

    def limit_facts(self, max_bytes: int) -> None:
        """From the next batch on record no fact whose message, headers included, could exceed `max_bytes`.

        A fact without a cause, of a stream without records, may take at most FIRST_SHARE of that.
        """
        self._unit_of_work.max_bytes = max_bytes

    def handle(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        """Queue a delivery, without a limit; `run` reports the result to `acknowledger`."""
        self._enqueue(Delivered(delivery, acknowledger))

    async def execute(self, command: Command) -> Answer:
        """Queue a request's command; return its answer once the facts are recorded.

        Raises Busy, StreamUnavailable, FoldError, Unpublishable or an error of the aggregate's `decide`: nothing was
        recorded. Raises another StoreUnavailable if the writer is suspended, or if the store failed: in the latter case
        the facts may have been recorded.
        """
        if self._suspended_because is not None:
            raise StoreUnavailable(self._suspended_because)
        if len(self._queue) >= self._limits.max_waiting_requests:
            raise Busy
        try:
            return await self._execute(command)
        except StreamUnreadable as error:
            raise StreamUnavailable(error) from error

    async def attempt(self, delivery: Delivery) -> Sequence[Fact]:
        """Queue the reaction to a retried delivery, also while suspended or busy; return its new facts once recorded.

        Returns no facts if the service has no reaction to the delivery. Raises StoreUnavailable if the store failed:
        the facts may have been recorded. Raises any error that prevents the reaction: no fact was recorded.
        """
        command = self._react(delivery, self._clock())
        return () if command is None else (await self._execute(command, delivery)).facts

    async def preview(self, messages: Sequence[Delivery]) -> list[Outcome]:
        """Return the outcomes that `attempt` would have for these messages in order; record nothing.

        It ends at the first error, which is then the last outcome.
        """
        dry_run = self._unit_of_work.dry_run()
        outcomes: list[Outcome] = []
        for delivery in messages:
            try:
                command = self._react(delivery, self._clock())
                outcomes.append(() if command is None else await dry_run(command))
            except Exception as error:  # of any kind: the caller wants to see it
                outcomes.append(error)
                break
        return outcomes

    async def _execute(self, command: Command, delivery: Delivery | None = None) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._enqueue(Requested(command, answer, delivery, current.get()))
        return await answer

    @property
    def waiting(self) -> int:
        """How many requests and deliveries wait to be decided; those of the batch at hand are not counted."""
        return len(self._queue)

    def _enqueue(self, work: Work) -> None:
        self._queue.append(work)
        self._idle.clear()
        self._arrived.set()

    async def read(self, streams: Sequence[str]) -> list[Any]:
        """Return the recorded states of these streams, in this order, only to be read.

        A read that begins after `execute` has returned sees the facts of that answer. Raises StreamUnavailable if one
        of the streams is unreadable; StoreUnavailable if the store cannot be read or reads are suspended.
        """
        if self._unreadable:
            raise StoreUnavailable(str(self._suspended_because))
        try:
            found = await self._unit_of_work.state_cache.get(streams)
        except StreamUnreadable as error:
            raise StreamUnavailable(error) from error
        except StoreError as error:
            raise StoreUnavailable(str(error)) from error
        return [found[stream].state for stream in streams]

    async def drained(self) -> None:
        """Wait until the queue is empty and its last batch is recorded, rejected or failed."""
        await self._idle.wait()

    async def run(self) -> None:
        """Decide and record what is queued, in batches, until canceled. A StoreError only fails the present batch."""
        loop, began, limits = asyncio.get_running_loop(), float("-inf"), self._limits
        batch: Sequence[Work] = ()
        while True:
            await wait(self._arrived, limits.recheck_s if self._unit_of_work.in_doubt else None)
            if len(batch) > 1 and len(self._queue) < limits.few and (left_s := began + limits.pace_s - loop.time()) > 0:
                await asyncio.sleep(left_s)
            began = loop.time()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), limits.max_batch))]
            try:
                if found := await self._unit_of_work.resolve_doubt():
                    self._recorded(found.decided.facts)
                    self._follow(found.work, found.outcomes, found.decided.records)
                await self._settle(batch)
            except StoreError as error:
                logger.error("the store failed; the batch is not answered", error=str(error), batch=len(batch))
                fail(batch, error)
            if not self._queue:
                self._arrived.clear()
                self._idle.set()

    async def _settle(self, batch: Sequence[Work]) -> None:
        work, decided, outcomes = await self._decide_and_record(batch)
        for (_, source), outcome in zip(work, outcomes, strict=True):
            if isinstance(outcome, Exception):
                refuse(source, outcome)
        snapshots = self._unit_of_work.publish_states(decided)
        if decided.facts:
            self._recorded(decided.facts)
        await self._unit_of_work.save_snapshots(snapshots)
        for (command, source), outcome in zip(work, outcomes, strict=True):
            if isinstance(source, Requested) and not source.answer.done() and not isinstance(outcome, Exception):
                source.answer.set_result(Answer(outcome, decided.states(command.streams)))
        acknowledge(batch)
        self._follow(work, outcomes, decided.records)

    def _follow(self, work: Commands, outcomes: Sequence[Outcome], records: Sequence[Record]) -> None:
        for follow in self.on_settled:  # in the loop's next turn: answers are on their way first
            asyncio.get_running_loop().call_soon(follow, work, outcomes, records)

    async def _decide_and_record(self, batch: Sequence[Work]) -> tuple[Commands, Batch, list[Outcome]]:
        """Decide and record the work; return its commands, the recorded batch, and the outcome of each command.

        Work that cannot be handled is rejected before anything is recorded. The rest is then decided again, without
        deliveries that now have to wait: deliveries of one key must not overtake each other. Raises StoreError.
        """
        left = [source for source in batch if not defers(source)]
        while True:
            try:
                work = self._commands(left)
                return work, *await self._unit_of_work.record(work)
            except Unhandled as unhandled:
                refuse(unhandled.source, unhandled.error)
                at = next(n for n, source in enumerate(left) if source is unhandled.source)
                left[at:] = [source for source in left[at + 1 :] if not defers(source)]

    def _commands(self, batch: Sequence[Work]) -> Commands:
        """Return the commands, each with its source; a delivery without a reaction has none.

        Raises Unhandled for the first delivery whose fact cannot be decoded or whose command cannot be made.
        """
        now = self._clock()
        commands: Commands = []
        for source in batch:
            if isinstance(source, Requested):
                commands.append((source.command, source))
                continue
            try:
                command = self._react(source.delivery, now)
            except Exception as error:  # a foreign body can fail to decode in any way
                raise Unhandled(source, error) from error
            if command is not None:
                commands.append((command, source))
        return commands

    def _react(self, delivery: Delivery, now: datetime) -> Command | None:
        fact, its_id = heard(delivery.subject, delivery.fact_id, delivery.raw_headers, delivery.body)
        reaction = self._reactions.get(type(fact))
        return None if reaction is None else reaction(fact, now, its_id)
