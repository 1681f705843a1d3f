"""A batch of work decided and recorded, in one transaction; and what is known of the streams afterwards.

On a conflict all of it is decided again on fresh heads. What nobody can decide is named, and nothing is recorded then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import structlog

from contracts.fact import Fact
from infra.core.decider import Aggregates, Batch, Command, FoldError, State, StreamState
from infra.core.messages import Acknowledger, Delivery
from infra.core.state_cache import StateCache, StreamUnreadable
from infra.store.event_store import Conflict, EventStore, StoreError
from infra.store.records import Record

logger = structlog.get_logger()

MAX_CONFLICTS: Final = 10
"""Conflicts in a row, each on freshly loaded heads, after which the store is taken to be out of order."""


class Answer(NamedTuple):
    """What came of a request: the facts it caused (none if it had been answered before) and the states after them."""

    facts: Sequence[Fact]
    states: Sequence[State]


class Requested(NamedTuple):
    """A request."""

    command: Command
    answer: asyncio.Future[Answer]


class Delivered(NamedTuple):
    """A delivery."""

    delivery: Delivery
    acknowledger: Acknowledger


Work = Requested | Delivered
Commands = list[tuple[Command, Work]]
Outcome = Sequence[Fact] | Exception


class Unhandled(Exception):
    """A piece of work that cannot be decided, and must not be in a batch with others."""

    def __init__(self, source: Work, error: Exception) -> None:
        super().__init__(str(error))
        self.source = source
        self.error = error


class UnitOfWork:
    def __init__(self, aggregates: Aggregates, store: EventStore) -> None:
        self._aggregates = aggregates
        self._store = store
        self.state_cache = StateCache(aggregates, store)
        self._doubtful: Batch | None = None

    async def record(self, work: Commands) -> tuple[Batch, list[Outcome]]:
        """Decide the commands and record what they cause, once. Raises Unhandled, StoreError."""
        streams = {stream for command, _ in work for stream in command.streams}
        assumed = self.state_cache.assume_new(streams)
        for _ in range(MAX_CONFLICTS):
            try:
                known = await self.state_cache.get([stream for stream in streams if stream not in assumed])
                decided = Batch(self._aggregates, known | assumed)
                outcomes = _decide(decided, work)
            except StreamUnreadable as error:
                first = next(source for command, source in work if error.stream in command.streams)
                raise Unhandled(first, error) from error
            except Unhandled:
                if not assumed:
                    raise
                assumed = {}  # a wrong one may be all that is the matter
                continue
            if not assumed.keys() <= decided.forks.keys():
                assumed = {}  # nothing will be recorded on some of them that could prove them right
                continue
            try:
                if decided.records:
                    await self._store.insert_events(decided.records)
            except Conflict:
                if assumed:
                    assumed = {}  # one of them was wrong, most likely, and the heads in memory are right
                else:
                    logger.warning("another writer was first; deciding again", streams=len(decided.forks))
                    self.state_cache.drop(streams)
            except StoreError:
                self.state_cache.drop(decided.forks)  # recorded or not: only the store knows
                self._doubtful = decided
                raise
            else:
                return decided, outcomes
        raise StoreError(f"{MAX_CONFLICTS} conflicts in a row")

    def publish_states(self, decided: Batch) -> list[Record]:
        """Let what was recorded be seen; gives the snapshots that are due."""
        return self.state_cache.put(decided.forks)

    async def save_snapshots(self, snapshots: Sequence[Record]) -> None:
        if snapshots:
            try:
                await self._store.insert_snapshots(snapshots)
            except StoreError as error:
                logger.warning("snapshots not kept; heads will be folded from further back", error=str(error))

    @property
    def in_doubt(self) -> bool:
        """Whether an append failed, and nobody knows yet whether it was recorded."""
        return self._doubtful is not None

    async def resolve_doubt(self) -> Sequence[Fact]:
        """The facts of an append that failed and was recorded all the same: who follows the log was not told yet.

        Raises StoreError.
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
        """Decides one command after another, each over what the ones before it would leave; nothing is recorded."""
        heads: dict[str, StreamState] = {}
        batch = Batch(self._aggregates, heads)

        async def decide(command: Command) -> Sequence[Fact]:
            heads.update(await self.state_cache.get(command.streams))
            return batch.decide(command)

        return decide


def _decide(batch: Batch, work: Commands) -> list[Outcome]:
    """Raises Unhandled for the first that must not stay in the batch: a message that was not handled, or a fold."""
    outcomes: list[Outcome] = []
    for command, source in work:
        try:
            outcomes.append(batch.decide(command))
        except Exception as error:  # the aggregate's answer to a request that should not have been made, or a bug in it
            if isinstance(source, Delivered) or isinstance(error, FoldError):
                raise Unhandled(source, error) from error
            outcomes.append(error)
    return outcomes
