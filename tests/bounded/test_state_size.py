"""The rule for every aggregate: after any number of facts its state, and so its snapshot, stays small."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final, get_args, get_type_hints

import msgspec
import pytest
from msgspec.structs import replace

from contracts import Fact, Line, Order
from contracts.ids import MAX_LENGTH
from contracts.wire import NAMES
from order_svc.domain import Place
from tests.contracts.examples import BY_NAME
from tests.domain.spec import AGGREGATES
from tests.domain.world import World
from tests.examples import PLACED_AT

FACTS: Final = 100_000
MOST_BYTES: Final = 4 << 10
MOST_OF_A_REQUEST: Final = 3
"""How often the streams of one order may have what was asked for."""
KEYS: Final = ("order_id", "idempotency_key", "cause")
"""The fields by which one fact is told from others of its stream: those that a state might remember."""


def folded(category: str) -> tuple[type[Fact], ...]:
    """The types of facts that this aggregate folds."""
    hints = list(get_type_hints(AGGREGATES[category].evolve).values())
    return get_args(hints[1]) or (hints[1],)


def facts(category: str) -> Iterator[Fact]:
    """Many facts of one stream: of every type in turn, each of another order, with another key and cause."""
    examples = [BY_NAME[NAMES[fact]] for fact in folded(category)]
    for number in range(FACTS):
        one = examples[number % len(examples)]
        fields = {name: f"{number:032}" for name in KEYS if name in one.__struct_fields__}
        yield replace(one, **fields)


@pytest.mark.parametrize("category", AGGREGATES)
def test_a_state_stays_small_after_a_hundred_thousand_facts(category: str) -> None:
    aggregate = AGGREGATES[category]
    state = aggregate.state()
    for fact in facts(category):
        aggregate.evolve(state, fact)

    assert len(msgspec.json.encode(state)) <= MOST_BYTES


def test_the_streams_of_one_order_are_of_the_size_of_what_was_asked_for() -> None:
    """The largest order: as many lines as one may have, and ids as long as they may be."""
    products = [f"{number:0{MAX_LENGTH}}" for number in range(100)]
    user, coupon = "u" * MAX_LENGTH, "c" * MAX_LENGTH
    world = World([])
    for product in products:
        world.register(product, 1_000_000, 10**9)
    world.charge(user, 10**6, "first")
    world.issue(coupon, user, 10**6, PLACED_AT + timedelta(days=1))
    order = Order(user, tuple(Line(product, 10**6) for product in products), 10**6, coupon, world.now)
    order_id = "f" * 32
    world._decide(world.ordering, [Place(order_id, order, world.now + timedelta(days=1), at=world.now)])
    world.become_quiet(newest_first=False)

    states: dict[str, Any] = {
        stream: head.state
        for service in world.services
        for stream, head in service.heads.items()
        if stream.endswith(f"-{order_id}")
    }
    sizes = {stream.partition("-")[0]: len(msgspec.json.encode(state)) for stream, state in states.items()}
    assert states[f"order-{order_id}"].status == "CONFIRMED"
    assert sizes.keys() == {"order", "reservation", "pointuse", "couponuse"}
    assert sum(sizes.values()) <= MOST_OF_A_REQUEST * len(msgspec.json.encode(order))
