"""`given(*facts).when(*commands).then(*facts)`: what a service decides, through the fold and the batch it runs with."""

import pkgutil
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
import pytest

from contracts import Fact
from infra.core.decider import Aggregates, AnyState, Batch, Command, StreamState, category
from infra.core.writer import Reactions
from infra.local.services import service_names
from infra.process.service import Service
from tests.examples import BEFORE, CAUSE, NOW

SERVICES: Final[dict[str, Service]] = {
    name: pkgutil.resolve_name(f"{name}_svc.__main__:SERVICE") for name in service_names()
}
"""Every service of this checkout, as it is composed to run."""

AGGREGATES: Aggregates = {
    category: aggregate for service in SERVICES.values() for category, aggregate in service.aggregates.items()
}


def fold(*facts: Fact) -> dict[str, StreamState]:
    """The heads of all streams that these facts are on."""
    heads: dict[str, StreamState] = {}
    for fact in facts:
        aggregate = AGGREGATES[category(fact.stream)]
        head = heads.setdefault(fact.stream, StreamState(0, aggregate.state()))
        aggregate.evolve(head.state, fact)
        head.version += 1
    return heads


def state_after(*facts: Fact) -> AnyState:
    """The state of the first fact's stream."""
    return fold(*facts)[facts[0].stream].state


def heard_by(reactions: Reactions) -> Callable[[Fact], Command]:
    """How a service hears a fact; its own `at` and `cause` differ from what the answer has to carry: NOW and CAUSE."""

    def hears(fact: Fact) -> Command:
        earlier = msgspec.structs.replace(fact, at=BEFORE, cause="something-earlier@1")
        return reactions[type(fact)](earlier, NOW, CAUSE)

    return hears


def decided(batch: Batch, command: Command) -> Sequence[Fact]:
    """What the batch decides: no fact that the command does not name, or `orders flow` would not tell the truth."""
    facts = batch.decide(command)
    if facts:
        says = command.says
        for fact in facts:
            assert type(fact) in says, f"{type(command).__name__}.says is not all it says"
    return facts


class When(NamedTuple):
    """Commands decided one after another in one batch, over what the facts left."""

    facts: tuple[Fact, ...]
    commands: tuple[Command, ...]

    def then(self, *expected: Fact) -> None:
        assert tuple(self._decide()) == expected

    def then_nothing(self) -> None:
        self.then()

    def then_raises(self, error: Exception) -> None:
        """An error of this kind, about the same."""
        with pytest.raises(type(error)) as raised:
            self._decide()
        assert raised.value.args == error.args

    def _decide(self) -> list[Fact]:
        heads = fold(*self.facts)
        for stream in {stream for command in self.commands for stream in command.streams}:
            heads.setdefault(stream, StreamState(0, AGGREGATES[category(stream)].state()))
        before = _written(heads)
        batch = Batch(AGGREGATES, heads)
        try:
            for command in self.commands:
                decided(batch, command)
        finally:
            assert _written(heads) == before, "what is seen may change after the commit only"
        return batch.facts


class Given(NamedTuple):
    facts: tuple[Fact, ...]

    def when(self, *commands: Command) -> When:
        return When(self.facts, commands)


def given(*facts: Fact) -> Given:
    return Given(facts)


def _written(heads: dict[str, StreamState]) -> dict[str, tuple[int, bytes]]:
    return {stream: (head.version, msgspec.json.encode(head.state)) for stream, head in heads.items()}
