"""One schedule: the customers' wishes, and the faults meanwhile. It is made from a seed, and small enough to read."""

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple, TypeVar

from contracts import Line
from tests.domain.spec import SERVICES
from tests.sim.chance import Chance

T = TypeVar("T")

FAULTS_UNTIL_S: Final = 3.0
"""No fault happens after this, so that all can be judged once it has become quiet."""


class Wish(NamedTuple):
    """An order that a customer wants `at_s` seconds after the beginning. He cancels it after `cancel_after_s` seconds,
    if at all.

    `key`: the customer's idempotency key. Another customer may have the same.
    """

    at_s: float
    user_id: str
    key: str
    lines: tuple[Line, ...]
    points: int
    coupon_id: str | None
    cancel_after_s: float | None
    times: int
    """How many requests with the same key are sent at once."""


class Fault(NamedTuple):
    """A fault `at_s` seconds after the beginning, for `for_s` seconds. `who`: a service, or the broker."""

    at_s: float
    kind: str
    who: str
    for_s: float = 0.0
    amount: int = 0


class Schedule(NamedTuple):
    seed: int
    stock: dict[str, int]
    balances: dict[str, int]
    coupons: dict[str, str]
    """By coupon: its owner."""
    wishes: tuple[Wish, ...]
    faults: tuple[Fault, ...]


OF_A_SERVICE: Final = [
    "kill",
    "kill",
    "kill",
    "cut",
    "cut",
    "lock",
    "fail",
    "drop",
    "again",
    "jump",
    "pause",
    "twin",
    "roll-back",
]
ONLY_WHEN_NAMED: Final = ("poison",)
"""A second process on the store, or a broker that loses its tail together with a service, may lose a dead letter."""
OF_THE_BROKER: Final = ("crash", "lose-tail", "lose-tail", "lose-tail", "lose-all", "forget")


def schedule(seed: int, kinds: Collection[str] = ()) -> Schedule:
    """The schedule of this seed, with faults of these kinds only if any are given."""
    chance = Chance(seed)
    users, products = ("ann", "bob"), ("tea", "jam")
    coupons = {f"c{n}": chance.choice(users) for n in range(2)}
    wishes: list[Wish] = []
    for number in range(chance.choice((1, 1, 2, 2, 3, 4))):
        user = chance.choice(users)
        mine = {wish.key for wish in wishes if wish.user_id == user}
        key = "key-0" if "key-0" not in mine and chance.happens(0.3) else f"key-{number}"
        lines = tuple(
            Line(product, chance.randint(1, 2))
            for product in chance.sample((*products, "none"), chance.choice((1, 1, 2)))
            if product != "none" or chance.happens(0.3)
        ) or (Line("tea", 1),)
        wishes.append(
            Wish(
                at_s=chance.random() * 1.5,
                user_id=user,
                key=key,
                lines=lines,
                points=chance.choice((0, 5, 20)),
                coupon_id=chance.choice((None, "c0", "c1", "unknown")),
                cancel_after_s=chance.random() * 2 if chance.happens(0.2) else None,
                times=2 if chance.happens(0.15) else 1,
            )
        )
    return Schedule(
        seed,
        stock={product: chance.randint(1, 4) for product in products},
        balances={user: chance.choice((0, 10, 40)) for user in users},
        coupons=coupons,
        wishes=tuple(wishes),
        faults=tuple(sorted(_fault(chance, kinds) for _ in range(chance.choice((0, 1, 2, 2, 3, 4))))),
    )


def _fault(chance: Chance, kinds: Collection[str]) -> Fault:
    at_s = chance.random() * (FAULTS_UNTIL_S - 1)
    for_s = min(chance.random() ** 2 * 2, FAULTS_UNTIL_S - at_s)
    of_the_broker = [kind for kind in OF_THE_BROKER if not kinds or kind in kinds]
    of_a_service = [kind for kind in OF_A_SERVICE if not kinds or kind in kinds]
    of_a_service += [kind for kind in ONLY_WHEN_NAMED if kind in kinds] * 3
    if of_the_broker and (chance.happens(0.3) or not of_a_service):
        return Fault(at_s, chance.choice(of_the_broker), "broker", for_s, chance.randint(0, 12))
    return Fault(at_s, chance.choice(of_a_service), chance.choice([*SERVICES]), for_s, chance.randint(1, 4))


def shorter(schedule: Schedule) -> Iterator[Schedule]:
    """The schedules with one thing less."""
    for n in range(len(schedule.faults)):
        yield schedule._replace(faults=_without(schedule.faults, n))
    for n, wish in enumerate(schedule.wishes):
        if len(schedule.wishes) > 1:
            yield schedule._replace(wishes=_without(schedule.wishes, n))
        for simpler in (
            wish._replace(cancel_after_s=None),
            wish._replace(times=1),
            wish._replace(coupon_id=None),
            wish._replace(points=0),
            wish._replace(lines=wish.lines[:1]),
        ):
            if simpler != wish:
                yield schedule._replace(wishes=(*schedule.wishes[:n], simpler, *schedule.wishes[n + 1 :]))


def _without(things: tuple[T, ...], n: int) -> tuple[T, ...]:
    return (*things[:n], *things[n + 1 :])
