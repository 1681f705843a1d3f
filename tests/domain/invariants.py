"""The invariants of the saga over everything that was said, in the order it was recorded, once all is quiet.

The numbers are the design's: 1 to 7, 9 and 10. The eighth compares the logs with the broker's stream: here is none.
They are written against the world of these tests, and say more of an order's end than the audit's checker may assume of
a system at work; that one is tried on the same runs in tests/audit.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from contracts import (
    WITHDRAWALS,
    CouponIssued,
    CouponRestored,
    CouponUsed,
    Fact,
    OrderCanceled,
    OrderConfirmed,
    OrderCreatedPending,
    PointCharged,
    PointRefunded,
    PointUsed,
    ProductRegistered,
    ProductStockAdded,
    ProductStockHeld,
    ProductStockReturned,
    SagaFact,
)
from order_svc.compensation import compensated
from tests.domain.world import Said, World, folded, live

STEPS = {
    "product": ("product.reserved", "product.released", "product.reserve.failed", "product.reserve.voided"),
    "point": ("point.used", "point.refunded", "point.use.failed", "point.use.voided"),
    "coupon": ("coupon.used", "coupon.restored", "coupon.use.failed", "coupon.use.voided"),
}
"""The steps in the order of the saga: done, undone, refused, fenced."""


def check(world: World) -> None:
    """Raises AssertionError if any invariant does not hold. Nothing may be waiting to be delivered."""
    assert not world.waiting
    stock_is_where_it_should_be(world)
    points_are_where_they_should_be(world)
    a_coupon_is_in_one_hand(world)
    for facts in stories(world).values():
        an_order_ends_once(facts)
        steps_fit_the_end(facts)
        nothing_is_undone_that_was_not_done(facts)
        amounts_add_up(facts)
    the_record_is_whole(world)
    replay_gives_the_same(world)
    one_key_counts_once(world)


def stories(world: World) -> Mapping[str, list[Said]]:
    """What was said about each order."""
    by_order: defaultdict[str, list[Said]] = defaultdict(list)
    for said in world.said:
        if isinstance(said.fact, SagaFact):
            by_order[said.fact.order_id].append(said)
    return by_order


def confirmed(world: World) -> list[OrderConfirmed]:
    """The orders that keep what they took: once all is quiet, the confirmed ones that were not canceled since."""
    canceled = {said.fact.order_id for said in world.said if isinstance(said.fact, OrderCanceled)}
    facts = [said.fact for said in world.said if isinstance(said.fact, OrderConfirmed)]
    return [fact for fact in facts if fact.order_id not in canceled]


# 1, 2, 3: what there is -----------------------------------------------------------------------------------------------


def stock_is_where_it_should_be(world: World) -> None:
    added: Counter[str] = Counter()
    available: Counter[str] = Counter()
    held: Counter[tuple[str, str]] = Counter()
    for said in world.said:
        match said.fact:
            case ProductStockAdded(product_id=product, quantity=quantity):
                added[product] += quantity
                available[product] += quantity
            case ProductStockHeld(product_id=product, order_id=order, quantity=quantity):
                available[product] -= quantity
                held[product, order] += quantity
                assert available[product] >= 0, f"1: oversold: {said}"
            case ProductStockReturned(product_id=product, order_id=order, quantity=quantity):
                available[product] += quantity
                held[product, order] -= quantity
                assert held[product, order] >= 0, f"1: returned more than it held: {said}"
    kept = {(line.product_id, fact.order_id): line.quantity for fact in confirmed(world) for line in fact.order.lines}
    assert +held == kept, "1: stock is held by confirmed orders, and by them alone"
    for product, quantity in added.items():
        sold = sum(pieces for (of, _), pieces in kept.items() if of == product)
        assert world.state(world.products, f"product-{product}").available == available[product] == quantity - sold


def points_are_where_they_should_be(world: World) -> None:
    charged: Counter[str] = Counter()
    balance: Counter[str] = Counter()
    used: Counter[str] = Counter()
    for said in world.said:
        match said.fact:
            case PointCharged(user_id=user, amount=amount):
                charged[user] += amount
                balance[user] += amount
            case PointUsed(order=order, order_id=order_id, points=points):
                assert points == order.points
                balance[order.user_id] -= points
                used[order_id] += points
                assert balance[order.user_id] >= 0, f"2: overdrawn: {said}"
            case PointRefunded(order=order, order_id=order_id, points=points):
                balance[order.user_id] += points
                used[order_id] -= points
                assert used[order_id] == 0, f"2: refunded something else than was used: {said}"
    spent: Counter[str] = Counter()
    for fact in confirmed(world):
        spent[fact.order.user_id] += fact.points
    for user in {*charged, *spent}:
        assert world.state(world.points, f"account-{user}").balance == balance[user] == charged[user] - spent[user], "2"


def a_coupon_is_in_one_hand(world: World) -> None:
    users: defaultdict[str, set[str]] = defaultdict(set)
    for said in world.said:
        match said.fact:
            case CouponUsed(coupon_id=str(coupon), order_id=order):
                assert not users[coupon], f"3: two orders use it: {said}"
                users[coupon].add(order)
            case CouponRestored(coupon_id=str(coupon), order_id=order):
                users[coupon].remove(order)
    kept = {fact.order.coupon_id: fact.order_id for fact in confirmed(world) if fact.order.coupon_id is not None}
    assert {coupon: orders for coupon, orders in users.items() if orders} == {c: {o} for c, o in kept.items()}, "3"
    for coupon in users:
        assert world.state(world.coupons, f"coupon-{coupon}").order_id == kept.get(coupon), "3"


# 4, 5, 6: what became of an order -------------------------------------------------------------------------------------


def an_order_ends_once(facts: Sequence[Said]) -> None:
    own = [said.fact for said in facts if said.name.startswith("order.")]
    match own:
        case [OrderCreatedPending() as created, OrderConfirmed()]:
            pass
        case [OrderCreatedPending() as created, OrderCanceled()]:
            pass
        case [OrderCreatedPending() as created, OrderConfirmed(), OrderCanceled(reason="customer-canceled")]:
            pass
        case _:
            raise AssertionError(f"4: not one first end: {own}")
    for fact in own[1:]:
        if isinstance(fact, OrderCanceled) and fact.reason == "deadline-exceeded":
            assert fact.at >= created.deadline, f"4: canceled too early: {fact}"


def steps_fit_the_end(facts: Sequence[Said]) -> None:
    names = {said.name for said in facts}
    end = next(said.fact for said in reversed(facts) if said.name.startswith("order."))
    outcomes = {step: [said.name for said in facts if said.name in of_step] for step, of_step in STEPS.items()}
    if isinstance(end, OrderConfirmed):
        assert list(outcomes.values()) == [[done] for done, *_ in STEPS.values()], f"5: {outcomes}"
        return
    assert isinstance(end, OrderCanceled)
    assert compensated(end.reason, names), f"5: canceled, quiet, and not compensated: {outcomes}"
    for step, (done, undone, refusal, fence) in STEPS.items():
        assert outcomes[step] in ([done, undone], [refusal], [fence], []), f"5: {step}: {outcomes}"
    if end.reason not in WITHDRAWALS:
        the_refusal_ends_the_flow(end, facts, outcomes)
    else:
        assert all(outcomes.values()), f"5: a step of a withdrawn order neither acted nor is fenced: {outcomes}"


def the_refusal_ends_the_flow(end: OrderCanceled, facts: Sequence[Said], outcomes: Mapping[str, list[str]]) -> None:
    """Every step before the refusing one did its part and undid it; those after it never heard of the order."""
    cause = next(said for said in facts if said.fact_id == end.cause)
    refusing = list(STEPS).index(cause.name.partition(".")[0])
    for position, (step, (done, undone, refusal, _)) in enumerate(STEPS.items()):
        expected = [done, undone] if position < refusing else [refusal] if position == refusing else []
        assert outcomes[step] == expected, f"5: {step}: {outcomes}"
    canceled = next(said.fact_id for said in facts if said.fact is end)
    assert not [said for said in facts if said.fact.cause == canceled], "5: the refusal had said it all"


def nothing_is_undone_that_was_not_done(facts: Sequence[Said]) -> None:
    for done, undone, refusal, fence in STEPS.values():
        answers = [said.name for said in facts if said.name in {done, undone, refusal, fence}]
        assert answers in ([], [done], [done, undone], [refusal], [fence]), f"6: {answers}"


def amounts_add_up(facts: Sequence[Said]) -> None:
    for fact in (said.fact for said in facts):
        if isinstance(fact, OrderConfirmed):
            assert fact.total == sum(
                price * line.quantity for price, line in zip(fact.unit_prices, fact.order.lines, strict=True)
            )
            assert fact.amount_due == fact.total - fact.points - fact.discount >= 0
            assert min(fact.points, fact.discount) >= 0


# 7, 9, 10: the record -------------------------------------------------------------------------------------------------


def the_record_is_whole(world: World) -> None:
    for service in world.services:
        versions: Counter[str] = Counter()
        for record in service.log:
            versions[record.originator_id] += 1
            assert record.originator_version == versions[record.originator_id], f"7: a gap before {record}"
    about: dict[str, Said] = {}
    for said in world.said:
        assert said.fact_id not in about, f"7: twice: {said}"
        cause = said.fact.cause
        if cause is None:
            assert _may_be_asked_for(said.fact), f"7: nobody asks for this: {said}"
        else:
            assert cause in about, f"7: caused by nothing that had happened: {said}"
            assert said.order_id in ("", about[cause].order_id), f"7: caused by another order: {said}"
        about[said.fact_id] = said
    assert len(world.said) == sum(len(service.log) for service in world.services)


def _may_be_asked_for(fact: Fact) -> bool:
    return isinstance(
        fact, OrderCreatedPending | PointCharged | CouponIssued | ProductRegistered | ProductStockAdded
    ) or (isinstance(fact, OrderCanceled) and fact.reason == "customer-canceled")


def replay_gives_the_same(world: World) -> None:
    for service in world.services:
        assert folded(service) == live(service.heads), "9"


def one_key_counts_once(world: World) -> None:
    keys = Counter(
        (said.fact.stream, said.fact.idempotency_key)
        for said in world.said
        if isinstance(said.fact, ProductStockAdded | PointCharged)
    )
    assert set(keys.values()) == {1}, f"10: {keys}"
    created = [said.fact for said in world.said if isinstance(said.fact, OrderCreatedPending)]
    orders = {fact.order_id: (fact.order.user_id, fact.order.lines, fact.order.points) for fact in created}
    placed = {world.order_id(number): wish for number, wish in enumerate(world.wishes)}
    assert len(created) == len(orders) == len(placed), "10"
    assert orders == {order: (wish.user_id, wish.lines, wish.points) for order, wish in placed.items()}, "10"
