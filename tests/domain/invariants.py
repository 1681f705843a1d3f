"""What holds of a world once all is quiet: the invariants of `ops.invariants`, and what only this world can know."""

from collections import defaultdict
from collections.abc import Mapping

from contracts import WITHDRAWALS, OrderCanceled, OrderCreatedPending, SagaFact
from contracts.wire import decode, encode
from ops.fold import Fold
from ops.fold import live as answers
from ops.invariants import LogEntry, Message
from ops.invariants import check as findings
from order_svc.compensation import compensated
from tests.domain.spec import AGGREGATES, SERVICES
from tests.domain.world import Said, World, folded, live


def check(world: World) -> None:
    """Raises AssertionError if anything does not hold. Nothing may be waiting to be delivered."""
    assert not world.waiting
    every_invariant_holds(world)
    causes_come_first(world)
    a_refusal_has_said_it_all(world)
    canceled_orders_look_compensated(world)
    replay_gives_the_same(world)
    every_wish_became_one_order(world)


def stories(world: World) -> Mapping[str, list[Said]]:
    """What was said about each order."""
    by_order: defaultdict[str, list[Said]] = defaultdict(list)
    for said in world.said:
        if isinstance(said.fact, SagaFact):
            by_order[said.fact.order_id].append(said)
    return by_order


def every_invariant_holds(world: World) -> None:
    logs = {
        name: [
            LogEntry(position, record.originator_id, record.originator_version, record.state)
            for position, record in enumerate(service.log, 1)
        ]
        for name, service in zip(SERVICES, world.services, strict=True)
    }
    stream = [Message(sequence, said.fact_id, encode(said.fact)) for sequence, said in enumerate(world.said, 1)]
    fold = Fold(AGGREGATES)
    for service in world.services:
        fold.heads |= service.heads
    found = findings(logs, stream, quiet=True, live=answers(fold))
    assert not found, "; ".join(f"{one.invariant}. {one.where}: {one.what}" for one in found)


def causes_come_first(world: World) -> None:
    """Said before, and about the same order."""
    about: dict[str, str] = {}
    for said in world.said:
        cause = said.fact.cause
        if cause is not None:
            assert cause in about, f"caused by nothing that had happened: {said}"
            assert said.order_id in ("", about[cause]), f"caused by another order: {said}"
        about[said.fact_id] = said.order_id


def a_refusal_has_said_it_all(world: World) -> None:
    """Every step that acted heard of it from the step that refused: no step answers the cancel as well."""
    refused = {
        said.fact_id
        for said in world.said
        if isinstance(said.fact, OrderCanceled) and said.fact.reason not in WITHDRAWALS
    }
    said_again = [said.fact_id for said in world.said if said.fact.cause in refused]
    assert not said_again, f"answers to the cancel of a refused order: {said_again}"


def canceled_orders_look_compensated(world: World) -> None:
    for facts in stories(world).values():
        for said in facts:
            if isinstance(said.fact, OrderCanceled):
                assert compensated(said.fact.reason, {other.name for other in facts}), f"not compensated: {said}"


def replay_gives_the_same(world: World) -> None:
    """Of the heads from the log; and what was heard is what can be read there."""
    for said in world.said:
        assert decode(encode(said.fact)) == said.fact, f"is read as another fact: {said}"
    for service in world.services:
        assert folded(service) == live(service.heads), "folding from zero gives other heads"


def every_wish_became_one_order(world: World) -> None:
    created = [said.fact for said in world.said if isinstance(said.fact, OrderCreatedPending)]
    placed = {fact.order_id: fact.order for fact in created}
    assert len(set(world.order_ids)) == len(world.wishes), "one order stands for two wishes"
    wished = dict(zip(world.order_ids, world.wishes, strict=True))
    assert placed.keys() == wished.keys(), "not every wish has become an order"
    for order_id, wish in wished.items():
        order = placed[order_id]
        asked = (order.user_id, order.lines, order.points, order.coupon_id)
        assert asked == wish[:4], f"order {order_id} is not what was wished: {asked}"
