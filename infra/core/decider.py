"""Decides without I/O: a batch of commands over the states of streams gives the records of one transaction.

A batch never writes to a committed state. It folds onto forks, which replace the committed states after the commit. So
no reader sees anything unrecorded, and after a conflict the forks are dropped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn, Protocol

from msgspec.structs import replace

from contracts.fact import Fact
from contracts.wire import HEADER_BYTES, MAX_BYTES, NAMES, encode, flaw
from infra.core.errors import FoldError, TooLarge, Unpublishable
from infra.store.records import Record

AnyState = Any
"""An aggregate's state: a Struct of immutable values and of dicts, sets and lists of them. Only `evolve` changes it."""


class Command(Protocol):
    """A request for a decision: `at` is its instant (UTC), `cause` the id of the fact it answers, or None.

    The category of `streams[0]` names the aggregate that decides, over the states of all `streams`. `says` (ClassVar)
    lists every fact type that `decide` may return for this command, so readers and `orders flow` see the choreography
    without running code.
    """

    @property
    def says(self) -> tuple[type[Fact], ...]: ...
    @property
    def at(self) -> datetime: ...
    @property
    def cause(self) -> str | None: ...
    @property
    def streams(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Aggregate:
    """How one aggregate of a service begins, decides and changes.

    `state()` makes the state of a stream without facts. `decide(command, *states)` gets the states of `command.streams`
    in their order. It returns new facts, each on one of those streams, or raises to refuse. `evolve(state, fact)` folds
    a fact into the state, in place.
    """

    state: Callable[[], AnyState]
    decide: Callable[..., Sequence[Fact]]
    evolve: Callable[[AnyState, Any], None]
    usually_new: bool = False
    """Whether most commands begin their stream. Then a stream that is not in memory is assumed new without reading the
    store. If the stream has records, the append is a Conflict, and the batch is decided again on the states read."""
    moved: tuple[type[Fact], ...] = ()
    """The types of facts of these streams that older code recorded in other streams: their `earlier_stream`. If a log
    has such facts, no stream of this aggregate is assumed new, and a stream's moved facts are folded first."""


def no_command(command: Command, *_: AnyState) -> NoReturn:
    """The `decide` of an aggregate that decides no command. Raises TypeError."""
    raise TypeError(f"no command begins with a stream such as {command.streams[0]}")


Aggregates = Mapping[str, Aggregate]
"""The aggregates by category: the part of a stream's name before the first `-`."""


def moved_facts(aggregates: Aggregates) -> dict[str, tuple[str, ...]]:
    """Map categories to the names of the facts that `Aggregate.moved` lists; aggregates without such are left out."""
    return {
        name: tuple(NAMES[fact] for fact in aggregate.moved)
        for name, aggregate in aggregates.items()
        if aggregate.moved
    }


class StreamState:
    """The state of one aggregate's stream at one version; at version 0 the stream has no records of its own."""

    __slots__ = ("state", "version")

    def __init__(self, version: int, state: AnyState) -> None:
        self.version = version
        self.state = state


def category(stream: str) -> str:
    return stream.partition("-")[0]


FIRST_SHARE: Final = 0.6
"""The share of the largest message that a client's first fact of a stream may take. What follows from it has all its
content again, and more: what is accepted must be able to end."""

CONTAINERS: Final = (dict, set, list)


def fork(state: AnyState) -> AnyState:
    """Copy a state and its dicts, sets and lists, so that folding onto the copy leaves the original alone.

    What those contain is shared: containers inside containers are not copied.
    """
    forked = replace(state)
    for name in state.__struct_fields__:
        value = getattr(state, name)
        if isinstance(value, CONTAINERS):
            setattr(forked, name, value.copy())
    return forked


class Batch:
    """Decides commands one after another, each over the states that the ones before it would leave. Stores nothing.

    `facts` and `records` are those of all commands so far, in their order. `forks` has the changed StreamStates by
    stream.
    """

    def __init__(
        self, aggregates: Aggregates, committed: Mapping[str, StreamState], max_bytes: int = MAX_BYTES
    ) -> None:
        """`committed` has, by name, the state of every stream that the commands need. The batch never writes to it.

        `max_bytes` is the largest message, headers included, that the broker takes.
        """
        self._aggregates = aggregates
        self._committed = committed
        self._max_bytes = max_bytes
        self.forks: dict[str, StreamState] = {}
        self.records: list[Record] = []
        self.facts: list[Fact] = []

    def decide(self, command: Command) -> Sequence[Fact]:
        """Decide a command, add its new facts to the batch, and return them; empty if nothing new follows from it.

        Raises the errors of the aggregate's `decide`, or Unpublishable: the batch is then unchanged. Raises FoldError:
        the batch is then unusable.
        """
        streams = command.streams
        aggregate = self._aggregates[category(streams[0])]
        facts = aggregate.decide(command, *self.states(streams))
        bodies = [self._body(fact) for fact in facts]
        for fact, body in zip(facts, bodies, strict=True):
            self._fold(fact, fact.stream, body)
        return facts

    def _body(self, fact: Fact) -> bytes:
        """Encode a fact that is to be recorded. Raises Unpublishable for a `flaw` of the fact.

        Also raises TooLarge if a fact without a cause takes more than FIRST_SHARE of the largest message, and its
        stream has no records before this command.
        """
        body, most = encode(fact), self._max_bytes
        if (why := flaw(fact, body, most)) is not None:
            too_large = len(body) > most - HEADER_BYTES
            raise (TooLarge if too_large else Unpublishable)(NAMES[type(fact)], why)
        if fact.cause is None and len(body) > FIRST_SHARE * most and self._is_first(fact.stream):
            raise TooLarge(NAMES[type(fact)], f"with {len(body):,} bytes it leaves too little for what follows from it")
        return body

    def _is_first(self, stream: str) -> bool:
        return (self.forks.get(stream) or self._committed[stream]).version == 0

    def states(self, streams: Sequence[str]) -> list[AnyState]:
        """The states of these streams, in this order, as the decisions so far would leave them; only to be read."""
        forks, committed = self.forks, self._committed
        return [(forks.get(stream) or committed[stream]).state for stream in streams]

    def _fold(self, fact: Fact, stream: str, body: bytes) -> None:
        forked = self.forks.get(stream)
        if forked is None:
            committed = self._committed[stream]
            forked = self.forks[stream] = StreamState(committed.version, fork(committed.state))
        try:
            self._aggregates[category(stream)].evolve(forked.state, fact)
        except Exception as error:
            raise FoldError(f"{stream}: {fact}") from error
        forked.version += 1
        self.records.append(Record(stream, forked.version, NAMES[type(fact)], body))
        self.facts.append(fact)
