"""A unit of work: commands that are decided together and recorded in one transaction.

On a conflict all of them are decided again on fresh states. If a piece of work cannot be decided, nothing is recorded,
and Unhandled names the piece.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, NamedTuple

import structlog

from contracts.fact import Fact
from infra.core.decider import Aggregates, AnyState, Batch, Command, StreamState
from infra.core.errors import FoldError, StreamUnreadable
from infra.core.messages import Acknowledger, Delivery
from infra.core.state_cache import SNAPSHOT_EVERY, StateCache
from infra.store.errors import Conflict, StoreError
from infra.store.event_store import EventStore
from infra.store.records import Record

logger = structlog.get_logger()

MAX_CONFLICTS: Final = 10
"""Conflicts in a row, each on freshly loaded states, after which the store counts as failed."""


class Answer(NamedTuple):
    """The facts that a request caused (none if it was answered before), and the states after them."""

    facts: Sequence[Fact]
    states: Sequence[AnyState]


class Requested(NamedTuple):
    """A client's command. The answer goes to its future."""

    command: Command
    answer: asyncio.Future[Answer]


class Delivered(NamedTuple):
    """A consumer's delivery. The result goes to its acknowledger."""

    delivery: Delivery
    acknowledger: Acknowledger


Work = Requested | Delivered
Commands = list[tuple[Command, Work]]

Outcome = Sequence[Fact] | Exception
"""The facts of one command, or the aggregate's refusal to decide it."""


class Unhandled(Exception):
    """A piece of work cannot be decided, and must be taken out of the batch."""

    def __init__(self, source: Work, error: Exception) -> None:
        super().__init__(str(error))
        self.source = source
        self.error = error


class UnitOfWork:
    """Decides and records, one batch at a time."""

    def __init__(self, aggregates: Aggregates, store: EventStore, snapshot_every: int = SNAPSHOT_EVERY) -> None:
        self._aggregates = aggregates
        self._store = store
        self.state_cache = StateCache(aggregates, store, snapshot_every=snapshot_every)
        self._doubtful: Batch | None = None

    async def record(self, work: Commands) -> tuple[Batch, list[Outcome]]:
        """Decide the commands and record their facts, once. Raises Unhandled, StoreError."""
        streams = {stream for command, _ in work for stream in command.streams}
        assumed = self.state_cache.assume_new(streams)
        for _ in range(MAX_CONFLICTS):
            recorded = await self._attempt(work, streams, assumed)
            if recorded is not None:
                return recorded
            assumed = {}
        raise StoreError(f"{MAX_CONFLICTS} conflicts in a row")

    async def _attempt(
        self, work: Commands, streams: Collection[str], assumed: dict[str, StreamState]
    ) -> tuple[Batch, list[Outcome]] | None:
        """Decide and append once, taking the streams of `assumed` to be new.

        Returns None if all of it has to be decided again without assumptions. Raises Unhandled, StoreError.
        """
        known = await self._load(work, [stream for stream in streams if stream not in assumed])
        decided = Batch(self._aggregates, known | assumed)
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
            self._doubtful = decided
            raise
        return decided, outcomes

    async def _load(self, work: Commands, streams: Collection[str]) -> dict[str, StreamState]:
        """The committed states of these streams. Raises Unhandled if one is damaged, and StoreError."""
        try:
            return await self.state_cache.get(streams)
        except StreamUnreadable as error:
            first = next(source for command, source in work if error.stream in command.streams)
            raise Unhandled(first, error) from error

    def publish_states(self, decided: Batch) -> list[Record]:
        """Make the recorded states visible to readers; returns the snapshots that are due."""
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

    async def resolve_doubt(self) -> Sequence[Fact]:
        """The facts of a failed append that the store recorded all the same; none if it did not.

        The writer's `recorded` has not been called with them yet. Raises StoreError.
        """
        doubtful = self._doubtful
        if doubtful is None:
            return ()
        first = doubtful.records[0]
        found = await self._store.select_streams([first.originator_id], ())
        self._doubtful = None
        if first.originator_id not in found or first not in found[first.originator_id].records:
            return ()
        logger.warning("an append that failed was recorded all the same", records=len(doubtful.records))
        return doubtful.facts

    def dry_run(self) -> Callable[[Command], Awaitable[Sequence[Fact]]]:
        """A function that decides commands one after another, each over the states the earlier ones would leave.

        Nothing is recorded.
        """
        states: dict[str, StreamState] = {}
        batch = Batch(self._aggregates, states)

        async def decide(command: Command) -> Sequence[Fact]:
            states.update(await self.state_cache.get(command.streams))
            return batch.decide(command)

        return decide


def _decide(batch: Batch, work: Commands) -> list[Outcome]:
    """Decide them in order. Raises Unhandled for the first delivery that fails, and for a request on FoldError.

    Any other failure of a request is its outcome.
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
