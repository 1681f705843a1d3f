"""Whatever is ordered, however the facts travel: once all is quiet nothing is lost, nothing is spent twice."""

from collections import Counter
from typing import Final

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from contracts import REASONS, WITHDRAWALS, Line, OrderCanceled
from contracts.step import fact_name
from contracts.wire import FACTS, STEPS
from tests.domain.invariants import check, stories
from tests.domain.plan import COUPONS, CUSTOMERS, HAPPENINGS, PRICES, UNKNOWN, Plan, run
from tests.domain.world import SECOND, Wish, World

WISHES = st.builds(
    Wish,
    user_id=st.sampled_from(CUSTOMERS),
    lines=st.lists(
        st.builds(Line, st.sampled_from([*PRICES, *PRICES, *PRICES, UNKNOWN]), st.integers(1, 3)),
        min_size=1,
        max_size=2,
        unique_by=lambda line: line.product_id,
    ).map(tuple),
    points=st.just(0) | st.integers(1, 10) | st.integers(10, 60),
    coupon_id=st.none() | st.sampled_from([*COUPONS, "never-issued"]),
    patience=st.integers(5, 90).map(lambda seconds: seconds * SECOND),
)
RIVALS = st.builds(
    Wish,
    user_id=st.just("one"),
    lines=st.builds(Line, st.sampled_from([*PRICES]), st.just(1)).map(lambda line: (line,)),
    points=st.integers(0, 3),
    coupon_id=st.sampled_from(["small", "small", "small", "brief", "never-issued"]),
    patience=st.just(90 * SECOND),
)
"""Orders that little stands in the way of but each other: they want the same coupon."""
PLANS = st.builds(
    Plan,
    stock=st.fixed_dictionaries({product: st.integers(1, 12) for product in PRICES}),
    balances=st.fixed_dictionaries({customer: st.integers(0, 40) for customer in CUSTOMERS}),
    wishes=st.lists(WISHES | RIVALS, min_size=2, max_size=8),
    steps=st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 999)), min_size=30, max_size=90),
    newest_first=st.booleans(),
)


REPEATABLE: Final = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # how long it takes depends on the machine
)


ENOUGH: Final = 5
"""Runs that have to come by each fact, reason and branch: a property nobody tried to break is no property."""

BRANCHES: Final = ["confirmed, then canceled", "withdrawn, though a step refused", "fenced at all awaited steps"]
REFUSED: Final = {fact_name(step.refused) for step in STEPS.awaited if step.refused}
FENCED: Final = {fact_name(step.fenced) for step in STEPS.awaited}


def count(seen: Counter[str], world: World) -> None:
    """In how many runs something occurred."""
    kinds = set()
    for facts in stories(world).values():
        names = {said.name for said in facts}
        kinds |= names
        withdrawn = {said.fact.reason for said in facts if isinstance(said.fact, OrderCanceled)} & WITHDRAWALS
        if names >= {"order.confirmed", "order.canceled"}:
            kinds.add("confirmed, then canceled")
        if withdrawn and names & REFUSED:
            kinds.add("withdrawn, though a step refused")
        if names >= FENCED:
            kinds.add("fenced at all awaited steps")
    kinds |= {said.name for said in world.said}
    kinds |= {said.fact.reason for said in world.said if isinstance(said.fact, OrderCanceled)}
    seen.update(kinds)


def test_any_orders_delivered_in_any_order_any_number_of_times_keep_the_invariants() -> None:
    seen: Counter[str] = Counter()

    @settings(REPEATABLE, max_examples=400)
    @given(PLANS)
    def any_order(plan: Plan) -> None:
        world = run(plan)
        for said in world.said:
            note(f"{said.fact_id}: {said.name} because of {said.fact.cause}")
        check(world)
        before = len(world.said)
        world.deliver_everything_again()
        assert len(world.said) == before, "a repetition says nothing new"
        count(seen, world)

    any_order()
    rare = {kind for kind in [*FACTS, *REASONS, *BRANCHES] if seen[kind] < ENOUGH}
    assert not rare, f"too few runs came by these to prove anything about them: {rare}"
