"""A batch of work decided and recorded, in one transaction; and what is known of the streams afterwards.

On a conflict all of it is decided again on fresh heads. What nobody can decide is named, and nothing is recorded then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import structlog

from contracts.fact import Fact
from infra.core.decider import Aggregates, Batch, Command, FoldError, Head, State
from infra.core.messages import Ear, Heard
from infra.core.state_cache import Heads, StreamUnreadable
from infra.store.event_store import Conflict, EventStore, StoreError
from infra.store.records import Record

log = structlog.get_logger()

MAX_CONFLICTS: Final = 10
"""Conflicts in a row, each on freshly loaded heads, after which the store is taken to be out of order."""


class Answer(NamedTuple):
    """What came of a request: the facts it caused (none if it had been answered before) and the states after them."""

    facts: Sequence[Fact]
    states: Sequence[State]


class Asked(NamedTuple):
    """A request."""

    command: Command
    answer: asyncio.Future[Answer]


class Told(NamedTuple):
    """A delivery."""

    heard: Heard
    ear: Ear


Work = Asked | Told
Commands = list[tuple[Command, Work]]
Outcome = Sequence[Fact] | Exception


class Unhandled(Exception):
    """A piece of work that cannot be decided, and must not be in a batch with others."""

    def __init__(self, source: Work, error: Exception) -> None:
        super().__init__(str(error))
        self.source = source
        self.error = error


class Recording:
    def __init__(self, aggregates: Aggregates, store: EventStore) -> None:
        self._aggregates = aggregates
        self._store = store
        self.heads = Heads(aggregates, store)
        self._doubtful: Batch | None = None

    async def record(self, work: Commands) -> tuple[Batch, list[Outcome]]:
        """Decide the commands and record what they cause, once. Raises Unhandled, StoreError."""
        streams = {stream for command, _ in work for stream in command.streams}
        guesses = self.heads.guess(streams)
        for _ in range(MAX_CONFLICTS):
            try:
                known = await self.heads.get([stream for stream in streams if stream not in guesses])
                decided = Batch(self._aggregates, known | guesses)
                outcomes = _decide(decided, work)
            except StreamUnreadable as error:
                first = next(source for command, source in work if error.stream in command.streams)
                raise Unhandled(first, error) from error
            except Unhandled:
                if not guesses:
                    raise
                guesses = {}  # a wrong one may be all that is the matter
                continue
            if not guesses.keys() <= decided.forks.keys():
                guesses = {}  # nothing will be recorded on some of them that could prove them right
                continue
            try:
                if decided.records:
                    await self._store.insert_events(decided.records)
            except Conflict:
                if guesses:
                    guesses = {}  # one of them was wrong, most likely, and the heads in memory are right
                else:
                    log.warning("another writer was first; deciding again", streams=len(decided.forks))
                    self.heads.drop(streams)
            except StoreError:
                self.heads.drop(decided.forks)  # recorded or not: only the store knows
                self._doubtful = decided
                raise
            else:
                return decided, outcomes
        raise StoreError(f"{MAX_CONFLICTS} conflicts in a row")

    def see(self, decided: Batch) -> list[Record]:
        """Let what was recorded be seen; gives the snapshots that are due."""
        return self.heads.put(decided.forks)

    async def keep(self, snapshots: Sequence[Record]) -> None:
        if snapshots:
            try:
                await self._store.insert_snapshots(snapshots)
            except StoreError as error:
                log.warning("snapshots not kept; heads will be folded from further back", error=str(error))

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
        log.warning("an append that failed was recorded all the same", records=len(doubtful.records))
        return doubtful.facts

    def would_be(self) -> Callable[[Command], Awaitable[Sequence[Fact]]]:
        """Decides one command after another, each over what the ones before it would leave; nothing is recorded."""
        heads: dict[str, Head] = {}
        batch = Batch(self._aggregates, heads)

        async def decide(command: Command) -> Sequence[Fact]:
            heads.update(await self.heads.get(command.streams))
            return batch.decide(command)

        return decide


def _decide(batch: Batch, work: Commands) -> list[Outcome]:
    """Raises Unhandled for the first that must not stay in the batch: a message that was not handled, or a fold."""
    outcomes: list[Outcome] = []
    for command, source in work:
        try:
            outcomes.append(batch.decide(command))
        except Exception as error:  # the aggregate's answer to a request that should not have been made, or a bug in it
            if isinstance(source, Told) or isinstance(error, FoldError):
                raise Unhandled(source, error) from error
            outcomes.append(error)
    return outcomes
