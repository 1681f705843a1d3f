"""Schedules of the core alone, without an event loop: deciders, reactions, a bus that delivers anything at any time.

They cost a fraction of those with processes around it, so many more can be played.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

from contracts import Line
from tests.domain.invariants import check
from tests.domain.plan import COUPONS, CUSTOMERS, PRICES, STEPS, UNKNOWN, Plan, run
from tests.domain.world import Wish
from tests.sim.chance import Chance
from tests.sim.run import Outcome

MOST_STEPS: Final = 24


def plan(seed: int) -> Plan:
    """The plan of this seed."""
    chance = Chance(seed)
    wares = [*PRICES, *PRICES, *PRICES, UNKNOWN]
    wishes = [
        Wish(
            user_id=chance.choice(CUSTOMERS),
            lines=tuple(Line(ware, chance.randint(1, 3)) for ware in dict.fromkeys(chance.choices(wares, k=2))),
            points=chance.choice((0, chance.randint(1, 10), chance.randint(10, 60))),
            coupon_id=chance.choice((None, "small", *COUPONS, "never-issued")),
            patience=timedelta(seconds=chance.randint(5, 90)),
        )
        for _ in range(chance.choice((1, 1, 2, 3)))
    ]
    return Plan(
        stock={ware: chance.randint(1, 8) for ware in PRICES},
        balances={customer: chance.randint(0, 40) for customer in CUSTOMERS},
        wishes=wishes,
        steps=[(chance.choice(STEPS), chance.randrange(1_000)) for _ in range(chance.randint(4, MOST_STEPS))],
        newest_first=chance.happens(0.5),
    )


def outcome(plan: Plan, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    """Play it until all is quiet. `tell` gets what was said, line by line, and what is wrong."""
    world, wrong = run(plan), []
    for said in world.said:
        tell(f"{said.fact_id}: {said.name} because of {said.fact.cause}")
    try:
        check(world)
    except AssertionError as error:
        wrong.append(str(error))
        tell(f"WRONG {error}")
    return Outcome(wrong, len(world.said), 0.0)


def shorter(plan: Plan) -> Iterator[Plan]:
    """The plans with one thing less."""
    for n in range(len(plan.steps)):
        yield plan._replace(steps=[*plan.steps[:n], *plan.steps[n + 1 :]])
    if len(plan.wishes) > 1:
        yield plan._replace(wishes=plan.wishes[:-1])
