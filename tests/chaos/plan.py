"""The random choices of a round, all from one seed: which faults hit which processes, when and for how long."""

import math
import random
from collections.abc import Mapping
from typing import Final, NamedTuple

from tests.chaos.disk import ARCHIVE
from tests.chaos.system import BROKER, SERVICES
from tests.wrappers import archive
from tests.wrappers.crash import STEPS

EVERYTHING: Final = "everything"
SPAN_S: Final = 3.0  # within which all faults of a round are due; those on one process wait for each other
PASSED_AT_MOST: Final = 3  # times, a step, before the process dies at it
LINES: Final = ("cut", "hold", "slow", "narrow")
"""The faults of a service's line to the broker."""

Quota = Mapping[str, float]
"""How many faults of each kind a round has; 0.2: one in every fifth round."""
KINDS: Final = ("kill", "broker-kill", "power", "lose", "pause", "line", "lock", "full", "roll", "archive")
NEED_A_DISK: Final = frozenset({"power", "full"})


class Fault(NamedTuple):
    """A fault: `at_s` seconds after the round's beginning `kind` happens to `who`, for `for_s` seconds.

    `step`: the step at which a killed service is killed once more, when it gets there for the `passed`-th time; or at
    which an archiver dies. A roll-over that has `passed` seals the older generations, however busy they are.
    """

    at_s: float
    kind: str
    who: str
    for_s: float
    step: str = ""
    passed: int = 0
    luck: int | None = None
    """The seed by which some unsynced writes outlive a power cut; None: all are lost."""

    def __str__(self) -> str:
        again = f", once more at '{self.step}' {self.passed or ''}".rstrip() if self.step else ""
        return f"{self.at_s:.2f} s: {self.kind} {self.who}{again}, for {self.for_s:.2f} s"


def plan(seed: int, number: int, quota: Quota) -> list[Fault]:
    """The faults of this round, in the order of their times."""
    chance = random.Random(f"{seed}/{number}")
    due = {kind: _by(number + 1, often) - _by(number, often) for kind, often in quota.items()}
    faults = _kills(chance, due.pop("kill", 0))
    own = random.Random(f"{seed}/{number}/archive")
    faults += [_archiver(own) for _ in range(due.pop("archive", 0))]
    faults += [_fault(chance, kind) for kind, count in sorted(due.items()) for _ in range(count)]
    return sorted(faults)


def _by(rounds: int, often: float) -> int:
    return math.floor(rounds * often + 1e-9)


def _kills(chance: random.Random, kills: int) -> list[Fault]:
    """Kills, mostly two at a time, one of them at a named step. The services take turns."""
    faults: list[Fault] = []
    turns: list[str] = []
    while kills > 0:
        turns = turns or list(SERVICES)
        who, at_s, for_s = turns.pop(chance.randrange(len(turns))), chance.uniform(0, SPAN_S), chance.uniform(0, 0.5)
        step, passed = "", 0
        if kills > 1 and chance.random() < 0.75:
            step = chance.choice([step for step in STEPS if step != "listed" or who == "order"])
            passed = 1 if step in {"connected", "reset"} else chance.randint(1, PASSED_AT_MOST)
        faults.append(Fault(at_s, "kill", who, for_s, step, passed))
        kills -= 2 if step else 1
    return faults


def _archiver(chance: random.Random) -> Fault:
    """An archiver, which often dies at a step; the next one goes on."""
    step = chance.choice([*archive.STEPS, ""])
    return Fault(chance.uniform(1.0, SPAN_S), "archive", ARCHIVE, chance.uniform(0, 0.5), step)


def _fault(chance: random.Random, kind: str) -> Fault:
    at_s = chance.uniform(0, SPAN_S)
    service, place = chance.choice(SERVICES), chance.choice((*SERVICES, BROKER))
    match kind:
        case "broker-kill":
            return Fault(at_s, "kill", BROKER, chance.uniform(0, 0.5))
        case "roll":
            return Fault(at_s, kind, BROKER, chance.uniform(0, 1.0), passed=chance.randrange(2))
        case "lose":
            return Fault(at_s, kind, BROKER, chance.uniform(0, 0.5))
        case "power":
            luck = chance.choice((None, chance.randrange(1 << 30)))
            return Fault(at_s, kind, EVERYTHING if chance.random() < 0.5 else place, chance.uniform(0, 0.5), luck=luck)
        case "pause":
            return Fault(at_s, kind, service, chance.uniform(10.5, 12.0))  # beyond ACK_WAIT_S
        case "lock":
            return Fault(at_s, kind, service, chance.uniform(5.5, 6.5))  # beyond BUSY_TIMEOUT_S
        case "full":
            return Fault(at_s, kind, place, chance.uniform(0.5, 3.0))
        case "line":
            return Fault(at_s, chance.choice(LINES), service, chance.uniform(0.2, 6.0))
    raise ValueError(kind)
