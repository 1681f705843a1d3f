"""A plan of what the shop has, what customers want and what happens to the deliveries; and what comes of it."""

from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from tests.domain.world import SECOND, Wish, World
from tests.examples import PLACED_AT

CUSTOMERS: Final = ["one", "two"]
PRICES: Final = {"bread": 5, "cheese": 8, "wine": 13}
UNKNOWN: Final = "unicorn"
COUPONS: Final = {
    "small": ("one", 3, timedelta(days=1)),
    "large": ("one", 1_000, timedelta(days=1)),  # more than any order costs
    "brief": ("one", 3, 12 * SECOND),  # expires while orders are still being placed
    "past": ("one", 3, timedelta(days=-1)),
    "other": ("two", 3, timedelta(days=1)),
}
"""Whose it is, what it is worth, and how long it can be used."""


class Plan(NamedTuple):
    """One run: what the shop has, what its customers want, and what happens until they leave."""

    stock: dict[str, int]
    balances: dict[str, int]
    wishes: list[Wish]
    steps: list[tuple[str, int]]
    newest_first: bool


HAPPENINGS: Final = [
    *["place"] * 4,
    *["deliver"] * 8,
    *["deliver_together"] * 2,
    *["deliver_again"] * 2,
    "crash",
    "crash_recorded",
    "cancel",
    "wait",
    "add_stock",
    "charge",
]


ADDED: Final = sorted(PRICES)
"""What may be added to later on."""


def run(plan: Plan) -> World:
    """The world when all has happened."""
    world = begun(plan)
    play(plan, world)
    return world


def begun(plan: Plan) -> World:
    """Nothing has happened yet in it but what the shop begins with."""
    return World(plan.wishes, opened(tuple(plan.stock.items()), tuple(plan.balances.items())))


def play(plan: Plan, world: World) -> None:
    """Everything that happens in a plan, and then all that follows from it."""
    for step, pick in plan.steps:
        match step:
            case "add_stock":
                world.add_stock(ADDED[pick % 3], 1, "one more")
            case "charge":
                world.charge(CUSTOMERS[pick % 2], 5, "once more")
            case _:
                getattr(world, step)(pick)
    world.place_the_rest()
    world.become_quiet(plan.newest_first)


@lru_cache(1_000)
def opened(stock: Sequence[tuple[str, int]], balances: Sequence[tuple[str, int]]) -> World:
    """What a plan begins with; worlds that begin with the same share its heads, for nobody may write to them."""
    world = World([])
    for product, pieces in stock:
        world.register(product, PRICES[product], pieces)
    for customer, balance in balances:
        if balance:
            world.charge(customer, balance, "at first")
    for coupon, (customer, discount, valid) in COUPONS.items():
        world.issue(coupon, customer, discount, PLACED_AT + valid)
    return world
