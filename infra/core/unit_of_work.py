"""A unit of work: commands that are decided together and recorded in one transaction.

On a conflict all of them are decided again. The refusal of a request's command is only an outcome. But if a delivery
cannot be decided, a stream is unreadable or a fold fails, nothing is recorded: Unhandled names the work.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, NamedTuple

import structlog

from contracts.fact import Fact
from contracts.wire import MAX_BYTES
from infra.core.decider import Aggregates, AnyState, Batch, Command, StreamState
from infra.core.errors import FoldError, StreamUnreadable
from infra.core.messages import Acknowledger, Delivery
from infra.core.state_cache import CACHED_STATES, SNAPSHOT_EVERY, StateCache
from infra.request_span import RequestSpan
from infra.store.errors import Conflict, StoreError
from infra.store.event_store import EventStore
from infra.store.records import Record

logger = structlog.get_logger()

MAX_CONFLICTS: Final = 10
"""Attempts at one batch, at most; if all are in vain, the store counts as failed. An attempt is in vain if it ends in a
conflict; the first one is also in vain if a stream that it assumed new may have records."""


class Answer(NamedTuple):
    """The new facts of a command (empty if nothing new follows), and the states of its streams, in their order.

    The states are those after the whole batch, so they may include facts of other commands in it.
    """

    facts: Sequence[Fact]
    states: Sequence[AnyState]


class Requested(NamedTuple):
    """A command of a client, a timer or a retried `delivery`, whose caller waits. `answer` gets its result or error.

    `request` is the span of the request that the caller works for, if that is traced.
    """

    command: Command
    answer: asyncio.Future[Answer]
    delivery: Delivery | None = None
    request: RequestSpan | None = None


class Delivered(NamedTuple):
    """A delivery whose reaction is to be recorded. The result goes to `acknowledger`."""

    delivery: Delivery
    acknowledger: Acknowledger


Work = Requested | Delivered
Commands = list[tuple[Command, Work]]

Outcome = Sequence[Fact] | Exception
"""The new facts of one command, or the error that prevented a decision, such as the aggregate's refusal."""


Settled = Callable[[Commands, Sequence[Outcome]], None]
"""Gets the commands of a batch, each with its source, and the outcome of each. It must not raise."""


def not_measured(_: Commands, __: Sequence[Outcome]) -> None:
    """Measure nothing."""


class RecordedBatch(NamedTuple):
    """A batch that is or may be recorded: commands with their sources, what they decided, the outcome of each."""

    work: Commands
    decided: Batch
    outcomes: Sequence[Outcome]


class Unhandled(Exception):
    """The work `source` cannot be decided because of `error`, and nothing of the batch was recorded.

    The rest of the batch, without `source`, may be tried again.
    """

    def __init__(self, source: Work, error: Exception) -> None:
        super().__init__(str(error))
        self.source = source
        self.error = error


class UnitOfWork:
    """Decides batches of commands, records each in one transaction, and owns the state cache.

    The caller calls `publish_states` after each `record`; after a StoreError it calls `resolve_doubt` before the next.
    """

    def __init__(
        self,
        aggregates: Aggregates,
        store: EventStore,
        snapshot_every: int = SNAPSHOT_EVERY,
        cached_states: int = CACHED_STATES,
        settled: Settled = not_measured,
    ) -> None:
        """`settled` is called with the work and the outcomes of each batch that `record` returns."""
        self._aggregates = aggregates
        self._store = store
        self.state_cache = StateCache(aggregates, store, cached_states, snapshot_every)
        self._settled = settled
        self._doubtful: RecordedBatch | None = None
        self.max_bytes = MAX_BYTES
        """The largest message, headers included, that the broker takes. No larger fact is recorded."""

    async def record(self, work: Commands) -> tuple[Batch, list[Outcome]]:
        """Decide the commands and record their facts in one transaction.

        Returns the batch, and the outcome of each command in order. Raises Unhandled: nothing was recorded. Raises
        StoreError: `in_doubt` then says whether the facts may be recorded.
        """
        streams = {stream for command, _ in work for stream in command.streams}
        assumed = self.state_cache.assume_new(streams)
        for _ in range(MAX_CONFLICTS):
            recorded = await self._attempt(work, streams, assumed)
            if recorded is not None:
                self._settled(work, recorded[1])
                return recorded
            assumed = {}
        raise StoreError(f"{MAX_CONFLICTS} conflicts in a row")

    async def _attempt(
        self, work: Commands, streams: Collection[str], assumed: dict[str, StreamState]
    ) -> tuple[Batch, list[Outcome]] | None:
        """Decide and append once, taking the streams of `assumed` to be new.

        Returns None if nothing was recorded and the work has to be decided again, then without assumptions. Raises
        Unhandled and StoreError as `record` does.
        """
        known = await self._load(work, [stream for stream in streams if stream not in assumed])
        decided = Batch(self._aggregates, known | assumed, self.max_bytes)
        try:
            outcomes = _decide(decided, work)
        except Unhandled:
            if not assumed:
                raise
            return None  # a wrong assumption may be the only cause
        if not assumed.keys() <= decided.forks.keys():
            return None  # some assumed stream gets no record, so the append could not prove that it was new
        try:
            if decided.records:
                await self._store.insert_events(decided.records)
        except Conflict:
            if not assumed:
                logger.warning("another writer was first; deciding again", streams=len(decided.forks))
                self.state_cache.evict(streams)
            # Otherwise an assumption was wrong, most likely, and the cached states are right.
            return None
        except StoreError:
            self.state_cache.evict(decided.forks)  # only the store knows whether they were recorded
            self._doubtful = RecordedBatch(work, decided, outcomes)
            raise
        return decided, outcomes

    async def _load(self, work: Commands, streams: Collection[str]) -> dict[str, StreamState]:
        """Return committed states by stream. Raises StoreError if the store cannot be read.

        Raises Unhandled, with the first work that needs it, if a stream is unreadable.
        """
        try:
            return await self.state_cache.get(streams)
        except StreamUnreadable as error:
            first = next(source for command, source in work if error.stream in command.streams)
            raise Unhandled(first, error) from error

    def publish_states(self, decided: Batch) -> list[Record]:
        """Make the states of a recorded batch visible to readers; return the snapshots for `save_snapshots`."""
        return self.state_cache.publish(decided.forks)

    async def save_snapshots(self, snapshots: Sequence[Record]) -> None:
        if snapshots:
            try:
                await self._store.insert_snapshots(snapshots)
            except StoreError as error:
                logger.warning("snapshots not saved; streams will be folded from older ones", error=str(error))

    @property
    def in_doubt(self) -> bool:
        """Whether an append failed, and it is not known yet whether the store recorded it."""
        return self._doubtful is not None

    async def resolve_doubt(self) -> RecordedBatch | None:
        """If `in_doubt`, read whether the failed append was recorded: that ends the doubt. Return its batch if it was.

        Returns None otherwise. The caller has to report the returned batch as recorded: nothing has done so yet. Its
        work was already told of the failure. Raises StoreError if the store cannot be read: the doubt remains.
        """
        doubtful = self._doubtful
        if doubtful is None:
            return None
        records = doubtful.decided.records
        first = records[0]
        found = await self._store.select_streams([first.originator_id], ())
        self._doubtful = None
        if first.originator_id not in found or first not in found[first.originator_id].records:
            return None
        logger.warning("an append that failed was recorded all the same", records=len(records))
        return doubtful

    def dry_run(self) -> Callable[[Command], Awaitable[Sequence[Fact]]]:
        """Return a function that decides commands one after another, each over the states the earlier ones would leave.

        That function returns a command's new facts and records nothing. It raises StoreError if the store, or
        one of the command's streams, cannot be read, and what Batch.decide raises.
        """
        states: dict[str, StreamState] = {}
        batch = Batch(self._aggregates, states, self.max_bytes)

        async def decide(command: Command) -> Sequence[Fact]:
            states.update(await self.state_cache.get(command.streams))
            return batch.decide(command)

        return decide


def _decide(batch: Batch, work: Commands) -> list[Outcome]:
    """Decide the commands in order; return the outcome of each.

    Raises Unhandled for the first delivery that cannot be decided, and for a request with a FoldError. Any other error
    of a request is its outcome.
    """
    outcomes: list[Outcome] = []
    for command, source in work:
        try:
            outcomes.append(batch.decide(command))
        except Exception as error:  # the aggregate's refusal of a request, or a bug in it
            if isinstance(source, Delivered) or isinstance(error, FoldError):
                raise Unhandled(source, error) from error
            outcomes.append(error)
    return outcomes
