"""Finds worlds that certainly broke no invariant: the verdict of `invariants.check` for a fraction of its cost.

An order's shape is its facts, their order and their causes. `check` judges each shape once: a shape is known once a
world that has it was found sound. All the rest is numbers, which are reckoned each time. Only the worlds that `check`
sees are tested for facts that read as they were written.

A world that is not certain is held back, for `check` to judge.
"""

from functools import lru_cache
from typing import Final

from contracts import Fact
from infra.core.decider import StreamState, category
from tests.domain.invariants import check
from tests.domain.plan import Plan
from tests.domain.spec import AGGREGATES
from tests.domain.world import PARTS, Said, World
from tests.sim.books import Books

Shape = tuple[object, ...]

SERVICE_OF: Final = {category: n for n, (aggregates, _) in enumerate(PARTS) for category in aggregates}
"""By category of its streams: the place in PARTS."""
EVOLVE: Final = {category: aggregate.evolve for category, aggregate in AGGREGATES.items()}


class Sieve:
    """The shapes that one process has found sound so far."""

    def __init__(self) -> None:
        self._known: set[Shape] = set()
        self.held_back = 0
        """How many worlds `check` had to judge."""

    def certain(self, plan: Plan, world: World) -> bool:
        """Whether the outcome of a plan is certainly right."""
        shapes = _shapes(plan, world)
        return shapes is not None and shapes <= self._known

    def check(self, plan: Plan, world: World) -> None:
        """The same as `invariants.check`: raises AssertionError if the outcome of a plan breaks an invariant."""
        shapes = _shapes(plan, world)
        if shapes is None or not shapes <= self._known:
            self.held_back += 1
            check(world)
            self._known |= shapes or set()


def _shapes(plan: Plan, world: World) -> set[Shape] | None:
    """The shapes of a world's orders; None if its numbers are in doubt."""
    try:
        assert not world.waiting
        assert len(world.said) == sum(len(service.log) for service in world.services)
        fold, books = Fold(world), Books(plan)
        for said in world.said[world.opened :]:
            fold.take(said)
            books.take(said)
        fold.is_live()
        books.are_live(world)
    except (AssertionError, KeyError):
        return None
    return {tuple(story.shape) for story in books.stories.values()}


class Fold:
    """Stream states folded from the facts."""

    def __init__(self, world: World) -> None:
        assert world.begin
        self._services = world.services
        self._begin = world.begin
        self._beginning = _by_stream(world.begin)
        self._heads: dict[str, StreamState] = {}

    def take(self, said: Said) -> None:
        stream = said.stream
        evolve = EVOLVE[category(stream)]
        head = self._heads.get(stream)
        if head is None:
            head = self._heads[stream] = StreamState(0, AGGREGATES[category(stream)].state())
            for earlier in self._beginning.get(stream, ()):
                evolve(head.state, earlier)
                head.version += 1
        evolve(head.state, said.fact)
        head.version += 1
        assert said.version == head.version

    def is_live(self) -> None:
        """Assert that the services have these stream states; those without new facts must be the initial ones."""
        count = len(self._heads)
        for stream, head in self._heads.items():
            seen = self._services[SERVICE_OF[category(stream)]].heads[stream]
            assert seen.version == head.version
            assert seen.state == head.state
        for service, begun in zip(self._services, self._begin.services, strict=True):
            for stream, head in begun.heads.items():
                if stream not in self._heads:
                    assert service.heads[stream] is head
                    count += 1
        assert count == sum(len(service.heads) for service in self._services)


@lru_cache(1_000)
def _by_stream(world: World) -> dict[str, list[Fact]]:
    facts: dict[str, list[Fact]] = {}
    for said in world.said:
        facts.setdefault(said.stream, []).append(said.fact)
    return facts
