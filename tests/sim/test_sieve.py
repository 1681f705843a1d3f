"""The sieve's quick verdict on a core schedule agrees with the long one: it passes no world that `check` rejects."""

import copy
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import pytest
from msgspec import ValidationError
from msgspec.structs import replace

from contracts import Order
from contracts.wire import NAMES, SERVICES, encode
from infra.core.decider import StreamState
from infra.store.records import Record
from tests.domain.invariants import check
from tests.domain.plan import run
from tests.domain.world import Said, World
from tests.sim import core
from tests.sim.sieve import Sieve

SEEDS: Final = range(24)
OTHERWISE: Final[dict[str, str]] = {
    "reason": "customer-canceled",
    "order_id": "somebody-elses",
    "product_id": "wine",
    "user_id": "somebody",
    "coupon_id": "other",
    "idempotency_key": "another",
    "status": "CANCELED",
    "answer": "voided",
}


def test_honest_worlds_pass_once_their_shapes_are_known() -> None:
    sieve = Sieve()
    for seed in SEEDS:
        sieve.check(core.plan(seed), run(core.plan(seed)))
    judged = sieve.held_back
    assert 0 < judged <= len(SEEDS)
    for seed in SEEDS:
        sieve.check(core.plan(seed), run(core.plan(seed)))
    assert sieve.held_back == judged, "nothing new, and nothing in doubt"


@pytest.mark.parametrize("part", range(4))
def test_no_damage_that_the_invariants_see_passes(part: int) -> None:
    sieve, seen = Sieve(), Counter[str]()
    for seed in SEEDS:
        sieve.check(core.plan(seed), run(core.plan(seed)))
    for seed in SEEDS[part::4]:
        plan = core.plan(seed)
        for what, world in damaged(run(plan)):
            try:
                check(world)
            except (AssertionError, KeyError, ValidationError):  # the last: no reader takes the fact
                seen[what] += 1
                assert not sieve.certain(plan, world), f"seed {seed}: {what}"
    assert len(seen) > 40, f"little was found wrong: {seen}"


def damaged(world: World) -> Iterator[tuple[str, World]]:
    """The world with one change: a fact lost, doubled, moved or altered, or a stream state unlike its facts."""
    for n, said in enumerate(world.said[world.opened :], world.opened):
        name = said.name
        yield f"{name} lost", with_facts(world, n, [])
        yield f"{name} doubled", with_facts(world, n, [said, replace(said, version=said.version + 1)])
        if n + 1 < len(world.said):
            yield f"{name} late", with_facts(world, n, [world.said[n + 1], said], gone=2)
        for field in said.fact.__struct_fields__:
            for value in other_values(field, getattr(said.fact, field), world):
                fact = replace(said.fact, **{field: value})
                yield f"{name}: {field}", with_facts(world, n, [replace(said, fact=fact)])
    for number, service in enumerate(world.services):
        for stream, head in service.heads.items():
            yield "head: version", with_head(world, number, stream, StreamState(head.version + 1, head.state))
            for field in head.state.__struct_fields__:
                for value in other_values(field, getattr(head.state, field), world):
                    state = copy.copy(head.state)
                    setattr(state, field, value)
                    yield f"head: {field}", with_head(world, number, stream, StreamState(head.version, state))


def other_values(field: str, value: Any, world: World) -> Iterator[Any]:
    match value:
        case int():
            yield from (value + 1, value - 1)
        case str() | None if field == "cause":
            yield from (None, "nothing@1", world.said[-1].fact_id, world.said[world.opened].fact_id)
        case str() | None:
            yield OTHERWISE.get(field, "otherwise")
        case Order():
            yield from (replace(value, points=value.points + 1), replace(value, lines=value.lines * 2))
        case tuple():
            yield from (value[1:], (*value, 1))
        case dict():
            yield {**value, "somebody-elses": 1}
            yield {key: value[key] for key in list(value)[1:]}
        case _ if field in ("deadline", "at"):
            yield value + timedelta(days=1)


def with_facts(world: World, n: int, said: list[Said], gone: int = 1) -> World:
    """The world with these facts in the place of the n-th; the logs have them as well."""
    changed = copy.copy(world)
    changed.said = [*world.said[:n], *said, *world.said[n + gone :]]
    changed.services = [copy.copy(service) for service in world.services]
    for service in changed.services:
        names = {(record.originator_id, record.originator_version) for record in service.log}
        service.log = []
        for one in changed.said:
            if (one.stream, one.version) in names or (one.stream, one.version - 1) in names:
                service.log.append(Record(one.stream, one.version, NAMES[type(one.fact)], encode(one.fact)))
    by_name = dict(zip(SERVICES, changed.services, strict=True))
    changed.ordering, changed.products = by_name["order"], by_name["product"]
    changed.points, changed.coupons = by_name["point"], by_name["coupon"]
    return changed


def with_head(world: World, service: int, stream: str, head: StreamState) -> World:
    changed = copy.copy(world)
    changed.services = [copy.copy(one) for one in world.services]
    changed.services[service].heads = copy.copy(world.services[service].heads)
    changed.services[service].heads[stream] = head
    by_name = dict(zip(SERVICES, changed.services, strict=True))
    changed.ordering, changed.products = by_name["order"], by_name["product"]
    changed.points, changed.coupons = by_name["point"], by_name["coupon"]
    return changed
