"""Schedules of the core alone, without an event loop: deciders, reactions, and a bus that delivers any message at any
time.

They cost a fraction of schedules with processes, so many more can be played.
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import product
from typing import Final

from contracts import Line
from tests.domain.plan import COUPONS, CUSTOMERS, HAPPENINGS, PRICES, UNKNOWN, Plan, begun, play
from tests.domain.world import Wish
from tests.sim.run import Outcome
from tests.sim.sieve import Sieve

# The parts of a schedule; a byte of its draw chooses one of each. Frequent parts are listed more than once.
WARES: Final = [*PRICES, *PRICES, *PRICES, UNKNOWN]
LINES: Final = [
    tuple(Line(ware, quantity) for ware, quantity in dict(zip(wares, quantities, strict=True)).items())
    for wares in product(WARES, WARES)
    for quantities in product((1, 2, 3), (1, 2, 3))
]
POINTS: Final = [0, 0, 1, 3, 5, 8, 13, 40]
COUPON_IDS: Final = [None, None, "small", "small", *COUPONS, "never-issued"]
PATIENCE: Final = [timedelta(seconds=seconds) for seconds in range(5, 91)]
ORDERS: Final = [1, 1, 2, 3]
STOCK: Final = [1, 2, 3, 5]
BALANCES: Final = [0, 8, 25]
STEP_OF: Final = [HAPPENINGS[byte % len(HAPPENINGS)] for byte in range(256)]
MOST_STEPS: Final = 24
DRAW: Final = 28 + 2 * MOST_STEPS  # bytes

SIEVE: Final = Sieve()


def plan(seed: int) -> Plan:
    """The plan of this seed."""
    draw = hashlib.shake_128(seed.to_bytes(8)).digest(DRAW)
    stock, balances, steps = draw[1:4], draw[4:6], 28 + 2 * (4 + draw[6] % (MOST_STEPS - 3))
    return Plan(
        stock={ware: STOCK[byte % 4] for ware, byte in zip(PRICES, stock, strict=True)},
        balances={customer: BALANCES[byte % 3] for customer, byte in zip(CUSTOMERS, balances, strict=True)},
        wishes=[_wish(draw[at : at + 6]) for at in range(8, 8 + 6 * ORDERS[draw[0] % 4], 6)],
        steps=[(STEP_OF[step], pick) for step, pick in zip(draw[28:steps:2], draw[29:steps:2], strict=True)],
        newest_first=draw[7] < 128,
    )


def _wish(draw: bytes) -> Wish:
    return Wish(
        CUSTOMERS[draw[0] % 2],
        LINES[(draw[1] << 8 | draw[2]) % len(LINES)],
        POINTS[draw[3] % 8],
        COUPON_IDS[draw[4] % len(COUPON_IDS)],
        PATIENCE[draw[5] % len(PATIENCE)],
    )


def outcome(plan: Plan, handle: Callable[[str], None] | None = None) -> Outcome:
    """Play the plan until all is quiet. `handle` gets the facts and the errors, line by line."""
    world, wrong = begun(plan), list[str]()
    try:
        play(plan, world)
        SIEVE.check(plan, world)
    except Exception as error:  # from an invariant or a decider: no command of a plan should raise
        wrong.append(str(error) if isinstance(error, AssertionError) else repr(error))
    if handle is not None:
        for said in world.said[world.opened :]:
            handle(f"{said.fact_id}: {said.name} because of {said.fact.cause}")
        for line in wrong:
            handle(f"WRONG {line}")
    return Outcome(wrong, len(world.said) - world.opened, 0.0)


def shorter(plan: Plan) -> Iterator[Plan]:
    """The plans with one thing less."""
    for n in range(len(plan.steps)):
        yield plan._replace(steps=[*plan.steps[:n], *plan.steps[n + 1 :]])
    if len(plan.wishes) > 1:
        for n in range(len(plan.wishes)):
            yield _without_wish(plan, n)


def _without_wish(plan: Plan, gone: int) -> Plan:
    """The plan without this wish. The steps for the other wishes stay the same."""
    steps = []
    for step, pick in plan.steps:
        number = pick % len(plan.wishes)
        if step not in ("place", "cancel"):
            steps.append((step, pick))
        elif number != gone:
            steps.append((step, number - (number > gone)))
    return plan._replace(wishes=[*plan.wishes[:gone], *plan.wishes[gone + 1 :]], steps=steps)
