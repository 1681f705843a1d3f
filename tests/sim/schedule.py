"""One schedule: the customers' wishes, and the faults meanwhile. It is made from a seed, and small enough to read."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from contracts import Line
from tests.domain.spec import SERVICES
from tests.sim.bounds import Bounds, drawn
from tests.sim.chance import Chance
from tests.sim.steps import STEPS

T = TypeVar("T")

FAULTS_UNTIL_S: Final = 3.0
"""No fault happens after this, so that all can be judged once it has become quiet."""

ARCHIVES: Final = "archive"
"""The fault that is none: archivers at work."""
ARCHIVER: Final = "archiver"
ARCHIVED_UNTIL_S: Final = 5.0
"""In schedules with archivers faults happen until then: what is archived has to be over first."""


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
    """A fault `at_s` seconds after the beginning, for `for_s` seconds.

    `who`: a service, the broker, ARCHIVER, or LOSER.

    With a `step`, it waits until the service `by` comes to this step for the `nth` time after that. There the service
    stays for `hangs_s` seconds, whatever happens meanwhile.
    """

    at_s: float
    kind: str
    who: str
    for_s: float = 0.0
    amount: int = 0
    by: str = ""
    step: str = ""
    nth: int = 1
    hangs_s: float = 0.0


class Schedule(NamedTuple):
    seed: int
    stock: dict[str, int]
    balances: dict[str, int]
    coupons: dict[str, str]
    """By coupon: its owner."""
    wishes: tuple[Wish, ...]
    faults: tuple[Fault, ...]
    bounds: Bounds = Bounds()


LOSER: Final = "the loser"
"""The service whose fact was the first of those that the broker lost last."""

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
OF_THE_BROKER: Final = (
    "crash",
    "lose-tail",
    "lose-tail",
    "lose-tail",
    "lose-again",
    "lose-all",
    "forget",
    "hole",
    "outlive",
    "leader",
    "stale",
    "delete",
    "roll",
    "roll",
    "roll",
)
WHILE_IT_ARCHIVES: Final = ("kill", "kill", "crash", "lose-all", "lose-tail", "hole", "forget", "delete", "roll")
"""What happens at the steps of an archiver. It is the one that is killed."""
ONCE_IT_IS_ARCHIVED: Final = (
    "lose-all",
    "lose-all",
    "lose-tail",
    "roll-back",
    "kill",
    "crash",
    "hole",
    "delete",
    "cut",
)
ARCHIVER_STEPS: Final = ("read", "written", "archived", "labeled", "deleting", "deleted")
ARCHIVED: Final = 0.5
"""The share of schedules with roll-overs in which archivers are at work."""
LOSSES: Final = frozenset({"lose-tail", "outlive", "lose-again", "lose-all", "hole", "delete"})

ONCE_MORE: Final = ("lose-again", "crash", "kill", "kill", "cut", "twin")
"""What hits again what was just lost."""

WHILE_IT_BEGINS: Final = ("connected", "resumed", "resumed", "reset")
"""Steps of the session after a loss."""

SWARMS: Final = 0.6
"""The share of schedules with few kinds of faults, many of each, and small bounds (swarm testing): faults of all kinds
together hide what a single kind shows."""


class Wanted(NamedTuple):
    """What schedules are drawn from: faults of these kinds only if any are given, and bounds, some of them fixed."""

    kinds: tuple[str, ...] = ()
    bounds: tuple[tuple[str, int], ...] = ()
    """Names and values."""

    @property
    def arguments(self) -> str:
        """The same as arguments of `just sim`, each after a blank."""
        named = [f"{name.replace('_', '-')}={value}" for name, value in self.bounds]
        return "".join(f" --fault {kind}" for kind in self.kinds) + "".join(f" --bound {one}" for one in named)


ANY: Final = Wanted()


def schedule(seed: int, wanted: Wanted = ANY) -> Schedule:
    """The schedule of this seed."""
    kinds, fixed = wanted.kinds, dict(wanted.bounds)
    chance = Chance(seed)
    swarm = chance.happens(SWARMS)
    bounds = (drawn(chance) if swarm else Bounds())._replace(**fixed)
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
    stock = {product: chance.randint(1, 4) for product in products}
    balances = {user: chance.choice((0, 10, 40)) for user in users}
    drawn_from = _swarm if swarm else _mixed
    faults = [] if set(kinds) == {ARCHIVES} else sorted(drawn_from(chance, kinds))
    own = Chance(f"{seed} archives")
    if ARCHIVES in kinds or (not kinds and any(fault.kind == "roll" for fault in faults) and own.happens(ARCHIVED)):
        faults = sorted([*faults, *_archiving(own, kinds)])
        wishes = [wish._replace(at_s=wish.at_s + 2.5 * own.choice((0, 0, own.random()))) for wish in wishes]
    return Schedule(
        seed,
        stock=stock,
        balances=balances,
        coupons=coupons,
        wishes=tuple(wishes),
        faults=tuple(faults),
        bounds=bounds,
    )


def _mixed(chance: Chance, kinds: Collection[str]) -> Iterator[Fault]:
    """Few faults of any kinds at any times."""
    for _ in range(chance.choice((0, 1, 2, 2, 3, 4))):
        yield _fault(chance, kinds)


def _swarm(chance: Chance, kinds: Collection[str]) -> Iterator[Fault]:
    """Many faults of few kinds, close together, at few services and steps, and again at what was just lost."""
    usual = dict.fromkeys((*OF_A_SERVICE, *OF_THE_BROKER))
    may = [kind for kind in (*usual, *ONLY_WHEN_NAMED) if (kind in kinds if kinds else kind in usual)]
    its_kinds = chance.sample(may, min(len(may), chance.choice((1, 1, 2, 2, 3))))
    services = chance.sample([*SERVICES], chance.choice((1, 1, 2, len(SERVICES))))
    steps = chance.sample(STEPS, chance.choice((1, 2, 4)))
    at_steps = chance.choice((0.0, 0.5, 1.0))
    moments = [chance.random() * (FAULTS_UNTIL_S - 1) for _ in range(chance.choice((1, 2, 3)))]
    for _ in range(chance.choice((1, 2, 3, 5, 8))):
        kind, who = chance.choice(its_kinds), chance.choice(services)
        of_the_broker = kind in OF_THE_BROKER
        at_s = chance.choice(moments) + chance.random() ** 2 * 0.3
        for_s = chance.random() ** 3 * (FAULTS_UNTIL_S - at_s)
        amount = chance.choice((0, 1, 2, 4, 12)) if of_the_broker else chance.randint(1, 4)
        fault = Fault(at_s, kind, "broker" if of_the_broker else who, for_s, amount)
        if chance.happens(at_steps):
            fault = fault._replace(by=who, step=chance.choice(steps), nth=chance.choice((1, 1, 2, 4)))
        yield fault
        if kind in LOSSES and chance.happens(0.6) and (more := [one for one in ONCE_MORE if not kinds or one in kinds]):
            yield _once_more(chance, fault, more)


def _archiving(chance: Chance, kinds: Collection[str]) -> Iterator[Fault]:
    """Archivers at work, faults at their steps, and others once something is archived."""
    for _ in range(chance.choice((1, 1, 2))):
        at_s = chance.random() * FAULTS_UNTIL_S
        yield Fault(at_s, ARCHIVES, "broker", ARCHIVED_UNTIL_S - at_s, chance.choice((0, 1, 1)))
    may = [kind for kind in WHILE_IT_ARCHIVES if not kinds or kind in kinds or kind == "kill"]
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        kind, nth = chance.choice(may), chance.choice((1, 1, 2, 4))
        yield Fault(
            at_s=chance.random() * FAULTS_UNTIL_S,
            kind=kind,
            who=ARCHIVER if kind == "kill" else "broker",
            for_s=chance.random() ** 3,
            amount=chance.choice((0, 1, 2, 4, 12)),
            by=ARCHIVER,
            step=chance.choice(("read", *ARCHIVER_STEPS)),
            nth=nth,
            hangs_s=chance.choice((0.0, 0.0, 2 * chance.random())),
        )
    more = [kind for kind in ONCE_IT_IS_ARCHIVED if not kinds or kind in kinds]
    for _ in range(chance.choice((0, 0, 1, 1, 2)) if more else 0):
        kind = chance.choice(more)
        who = "broker" if kind in OF_THE_BROKER else chance.choice([*SERVICES])
        at_s = 1.5 + chance.random() * (ARCHIVED_UNTIL_S - 2.0)
        yield Fault(at_s, kind, who, chance.random() ** 2, chance.randint(1, 4))


def _once_more(chance: Chance, loss: Fault, kinds: Sequence[str]) -> Fault:
    """A fault that hits what the loss has hit: the same place of the stream, or the service that lost a fact."""
    after_s = min(loss.at_s + loss.for_s + chance.random() ** 2 * 0.3, FAULTS_UNTIL_S)
    kind = chance.choice(kinds)
    fault = Fault(after_s, kind, "broker" if kind in OF_THE_BROKER else LOSER, chance.random() ** 3)
    if chance.happens(0.5):
        fault = fault._replace(by=LOSER, step=chance.choice((*STEPS, *WHILE_IT_BEGINS)))
    return fault


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
    for name, usual in zip(Bounds._fields, Bounds(), strict=True):
        if getattr(schedule.bounds, name) != usual:
            yield schedule._replace(bounds=schedule.bounds._replace(**{name: usual}))
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
