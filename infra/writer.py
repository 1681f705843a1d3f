"""The one writer of a service: whatever has arrived is decided and recorded together, in one transaction.

Messages from the broker and requests from clients wait in one queue and share one commit, so the disk is asked once per
batch. Nothing is answered or acknowledged before its batch is recorded; a crash anywhere in between repeats work that
the aggregates recognise.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import structlog

from contracts.fact import Fact
from contracts.wire import decode
from infra.decider import Aggregates, Batch, Command, FoldError, Head, State
from infra.heads import Heads
from infra.marks import Mark
from infra.store import Conflict, EventStore, StoreError

log = structlog.get_logger()

MAX_BATCH: Final = 128
"""Commands decided in one go: what keeps the event loop responsive (about 5 ms)."""

FEW: Final = 24  # commands
PACE_S: Final = 0.003
"""A batch of few waits until the one before it began this long ago: a commit, and all that follows it, costs far more
than what one command more adds to it. Whoever comes alone does not wait."""

MAX_WAITING_REQUESTS: Final = 4_096
"""Requests waiting for their commit; more are turned away. Messages are bounded by the consumer's max_ack_pending."""

MAX_CONFLICTS: Final = 10
"""Conflicts in a row, each on freshly loaded heads, after which the store is taken to be out of order."""

LOOK_AGAIN_S: Final = 1.0
"""After this a store that failed is asked what it has recorded, if nobody wants anything of it earlier."""

Reactions = Mapping[type[Fact], Callable[[Any, datetime, str], Command]]
"""Fact type → command, made of (fact, now, fact id)."""

Clock = Callable[[], datetime]


class Heard(NamedTuple):
    """One delivery of what stands at the `mark` in the stream; `receipt` is the subject its acknowledgement goes to."""

    fact_id: str
    body: bytes
    receipt: str
    mark: Mark


class Ear(Protocol):
    """Where a delivery came from, and wants to know what became of it."""

    closed: bool

    def done(self, heard: Heard) -> None:
        """Everything that follows from this delivery, and from all before it, is recorded."""

    def failed(self, error: Exception) -> None:
        """It, and whatever came after it, has to be delivered again."""


class Answer(NamedTuple):
    """What came of a request: the facts it caused (none if it had been answered before) and the states after them."""

    facts: Sequence[Fact]
    states: Sequence[State]


class Busy(Exception):
    """Too many requests are waiting; nothing was recorded. Try again in a second."""


class StoreUnavailable(Exception):
    """The store fails, or may not be written to. What failed may have been recorded; its repeat is recognised."""


class _Asked(NamedTuple):
    command: Command
    answer: asyncio.Future[Answer]


class _Told(NamedTuple):
    heard: Heard
    ear: Ear


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
        self._aggregates = aggregates
        self._reactions = reactions
        self._store = store
        self._clock = clock
        self._recorded = recorded
        self._heads = Heads(aggregates, store)
        self._queue: deque[_Asked | _Told] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._shut_because: str | None = None
        self._unreadable = False
        self._doubtful: Batch | None = None

    def shut(self, because: str, *, reads_too: bool = False) -> None:
        """Record no request from now on, and show nothing with `reads_too`: this may be, or is, the wrong store."""
        self._shut_because = because
        self._unreadable = reads_too

    def open(self) -> None:
        self._shut_because = None
        self._unreadable = False

    # Into the queue ---------------------------------------------------------------------------------------------------

    def tell(self, heard: Heard, ear: Ear) -> None:
        """Take a delivery; `ear` learns when it is done."""
        self._put(_Told(heard, ear))

    async def ask(self, command: Command) -> Answer:
        """Decide and record a request's command.

        Raises Busy, StoreUnavailable, or what the aggregate's decide raises: nothing was recorded then.
        """
        if self._shut_because is not None:
            raise StoreUnavailable(self._shut_because)
        if len(self._queue) >= MAX_WAITING_REQUESTS:
            raise Busy
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._put(_Asked(command, answer))
        return await answer

    @property
    def waiting(self) -> int:
        """Requests and deliveries that wait to be decided."""
        return len(self._queue)

    def _put(self, work: _Asked | _Told) -> None:
        self._queue.append(work)
        self._idle.clear()
        self._arrived.set()

    async def read(self, streams: Sequence[str]) -> list[Head]:
        """The recorded heads of these streams: a read after an answer sees what was answered.

        Raises StoreUnavailable.
        """
        if self._unreadable:
            raise StoreUnavailable(str(self._shut_because))
        try:
            heads = await self._heads.get(streams)
        except StoreError as error:
            raise StoreUnavailable(str(error)) from error
        return [heads[stream] for stream in streams]

    async def drained(self) -> None:
        """Returns when nothing is waiting to be recorded."""
        await self._idle.wait()

    # Out of it --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        loop, began = asyncio.get_running_loop(), 0.0
        while True:
            await self._something_to_do()
            if len(self._queue) < FEW and (left_s := began + PACE_S - loop.time()) > 0:
                await asyncio.sleep(left_s)
            began = loop.time()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            try:
                await self._resolve_doubt()
                await self._settle(batch)
            except StoreError as error:
                log.error("store failed", error=str(error), batch=len(batch))
                self._give_up(batch, error)
            if not self._queue:
                self._arrived.clear()
                self._idle.set()

    async def _something_to_do(self) -> None:
        if self._doubtful is None:
            await self._arrived.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S):
                await self._arrived.wait()

    async def _resolve_doubt(self) -> None:
        """If an append failed and was recorded all the same, who follows the log has not been told yet."""
        if self._doubtful is None:
            return
        first = self._doubtful.records[0]
        found = await self._store.select_streams([first.originator_id], ())
        if first.originator_id in found and first in found[first.originator_id].records:
            log.warning("an append that failed was recorded all the same", records=len(self._doubtful.records))
            self._recorded(self._doubtful.facts)
        self._doubtful = None

    async def _settle(self, batch: Sequence[_Asked | _Told]) -> None:
        work = self._commands(batch)
        streams = {stream for command, _ in work for stream in command.streams}
        decided, outcomes = await self._record([command for command, _ in work], streams)
        for (_, source), outcome in zip(work, outcomes, strict=True):
            if isinstance(outcome, Exception):
                _refuse(source, outcome)
        await self._publish(decided)
        for (command, source), outcome in zip(work, outcomes, strict=True):
            if isinstance(source, _Asked) and not source.answer.done() and not isinstance(outcome, Exception):
                source.answer.set_result(Answer(outcome, decided.states(command.streams)))
        # One receipt covers all deliveries before it; an ear that was refused one has closed, and wants none.
        last = next((source for source in reversed(batch) if isinstance(source, _Told)), None)
        if last and not last.ear.closed:
            last.ear.done(last.heard)

    def _commands(self, batch: Sequence[_Asked | _Told]) -> list[tuple[Command, _Asked | _Told]]:
        """What each piece of work wants decided; deliveries nobody waits for any more want nothing."""
        now = self._clock()
        commands: list[tuple[Command, _Asked | _Told]] = []
        for source in batch:
            if isinstance(source, _Asked):
                commands.append((source.command, source))
            elif not source.ear.closed:
                try:
                    command = self._react(source.heard, now)
                except msgspec.DecodeError as error:
                    _refuse(source, error)
                else:
                    if command is not None:
                        commands.append((command, source))
        return commands

    def _react(self, heard: Heard, now: datetime) -> Command | None:
        fact = decode(heard.body)
        reaction = self._reactions.get(type(fact))
        if reaction is None:
            log.debug("ignored: no reaction to this fact", fact=type(fact).__name__, fact_id=heard.fact_id)
            return None
        return reaction(fact, now, heard.fact_id)

    async def _record(
        self, commands: Sequence[Command], streams: Collection[str]
    ) -> tuple[Batch, list[Sequence[Fact] | Exception]]:
        """Decide the commands and record what they cause, once; on a conflict all of it again, on fresh heads."""
        guesses = self._heads.guess(streams)
        for _ in range(MAX_CONFLICTS):
            known = await self._heads.get([stream for stream in streams if stream not in guesses])
            decided = Batch(self._aggregates, known | guesses)
            outcomes = [_decide(decided, command) for command in commands]
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
                    self._heads.drop(streams)
            except StoreError:
                self._heads.drop(decided.forks)  # recorded or not: only the store knows
                self._doubtful = decided
                raise
            else:
                return decided, outcomes
        raise StoreError(f"{MAX_CONFLICTS} conflicts in a row")

    async def _publish(self, decided: Batch) -> None:
        """Let the new heads be seen, and tell who follows the log."""
        snapshots = self._heads.put(decided.forks)
        if decided.facts:
            self._recorded(decided.facts)
        if snapshots:
            try:
                await self._store.insert_snapshots(snapshots)
            except StoreError as error:
                log.warning("snapshots not kept; heads will be folded from further back", error=str(error))

    def _give_up(self, batch: Sequence[_Asked | _Told], error: StoreError) -> None:
        for source in batch:
            if isinstance(source, _Told):
                source.ear.failed(error)
            elif not source.answer.done():
                source.answer.set_exception(StoreUnavailable(str(error)))


def _decide(batch: Batch, command: Command) -> Sequence[Fact] | Exception:
    try:
        return batch.decide(command)
    except FoldError:
        raise
    except Exception as error:  # the aggregate's answer to a request that should not have been made, or a bug in it
        return error


def _refuse(source: _Asked | _Told, error: Exception) -> None:
    if isinstance(source, _Told):
        log.error("cannot handle a fact; hearing stops here", fact_id=source.heard.fact_id, exc_info=error)
        source.ear.failed(error)
    elif not source.answer.done():
        source.answer.set_exception(error)
