"""Deciding without I/O: a batch of commands over heads of streams gives the records of one transaction.

A head is the state of one stream at one version. Heads that anybody can see are never written to: a batch folds onto
forks of them, and the forks take their place after the commit, so nothing unrecorded is ever seen, and a conflict
leaves nothing behind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from msgspec.structs import replace

from contracts.fact import Fact
from contracts.wire import NAMES, encode
from infra.store.records import Record

State = Any
"""An aggregate's state: a Struct of plain values, dicts, sets and lists. Only the fold writes to it."""


class Command(Protocol):
    """Something to be decided: `at` which instant (UTC), because of which fact (`cause`), over which `streams`.

    `says`, one for the whole type: which facts may come of it, all of them. `decide` is code; this tells who reads the
    flow, and `orders flow`, what leads to what.
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
    """One aggregate of a service.

    `decide(command, *states)` gets the states of `command.streams` in their order and gives facts, each on one of those
    streams; `evolve(state, fact)` folds a fact into a state.
    """

    state: Callable[[], State]
    decide: Callable[..., Sequence[Fact]]
    evolve: Callable[[State, Any], None]
    usually_new: bool = False
    """Most commands meet their stream before it has any fact: one that is not in memory is taken to be empty, the store
    not asked first, and the append tells if it was not."""


Aggregates = Mapping[str, Aggregate]
"""By category, the part of a stream's name before the first `-`."""


class StreamState:
    """The state of one stream at one version."""

    __slots__ = ("state", "version")

    def __init__(self, version: int, state: State) -> None:
        self.version = version
        self.state = state


def category(stream: str) -> str:
    return stream.partition("-")[0]


CONTAINERS: Final = (dict, set, list)


def fork(state: State) -> State:
    """A copy that shares nothing the fold could write to: a state has plain values and dicts, sets, lists of them."""
    forked = replace(state)
    for name in state.__struct_fields__:
        value = getattr(state, name)
        if isinstance(value, CONTAINERS):
            setattr(forked, name, value.copy())
    return forked


class FoldError(Exception):
    """A fact could not be folded into its stream's state: the code that decides and the code that folds disagree."""


class Batch:
    """Decides commands one after another, each over what the ones before it would leave."""

    def __init__(self, aggregates: Aggregates, heads: Mapping[str, StreamState]) -> None:
        self._aggregates = aggregates
        self._heads = heads
        self.forks: dict[str, StreamState] = {}
        self.records: list[Record] = []
        self.facts: list[Fact] = []

    def decide(self, command: Command) -> Sequence[Fact]:
        """The new facts of a command; none if everything it asks for has been answered.

        Raises what the aggregate's decide raises; the batch is then as it was before.
        """
        streams = command.streams
        aggregate = self._aggregates[category(streams[0])]
        facts = aggregate.decide(command, *self.states(streams))
        for fact in facts:
            self._fold(fact, fact.stream)
        return facts

    def states(self, streams: Sequence[str]) -> list[State]:
        """The states of these streams as the decisions so far would leave them."""
        forks, heads = self.forks, self._heads
        return [(forks.get(stream) or heads[stream]).state for stream in streams]

    def _fold(self, fact: Fact, stream: str) -> None:
        head = self.forks.get(stream)
        if head is None:
            seen = self._heads[stream]
            head = self.forks[stream] = StreamState(seen.version, fork(seen.state))
        try:
            self._aggregates[category(stream)].evolve(head.state, fact)
        except Exception as error:
            raise FoldError(f"{stream}: {fact}") from error
        head.version += 1
        self.records.append(Record(stream, head.version, NAMES[type(fact)], encode(fact)))
        self.facts.append(fact)
