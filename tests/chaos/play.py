"""Plays rounds one after another, several on each system."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.checkout import commit
from bench.load import some
from tests.chaos.disk import mounted
from tests.chaos.plan import NEED_A_DISK, Quota, plan
from tests.chaos.rounds import Course
from tests.chaos.system import open_system
from tests.chaos.tally import Tally

ROUNDS_A_SYSTEM: Final = 10
"""Rounds before a new system begins: a broker without its store gets all history again, which must not grow for ever.
"""
SHOWN: Final = 20  # of what is wrong

Say = Callable[[str], None]


async def nothing_wrong(folder: Path, seed: int, rounds: int, quota: Quota) -> Tally:
    """Play rounds, assert that nothing went wrong, and return the tally. For tests; the story is on standard output."""
    tally = Tally()
    print(f"seed {seed} at commit {commit()}")
    wrong = await play(folder, seed, rounds, quota, tally, print)
    print("\n".join(tally.lines()))
    assert wrong == []
    return tally


async def play(folder: Path, seed: int, rounds: int, quota: Quota, tally: Tally, say: Say) -> list[str]:
    """Play until all rounds are over or one went wrong. Returns the errors."""
    for first in range(0, rounds, ROUNDS_A_SYSTEM):
        own = folder / f"from-{first}"
        own.mkdir()
        numbers = range(first, min(rounds, first + ROUNDS_A_SYSTEM))
        wrong = await _with_one_system(own, seed, numbers, quota, tally, say)
        if wrong:
            return wrong
        shutil.rmtree(own)
    return []


async def _with_one_system(folder: Path, seed: int, numbers: range, quota: Quota, tally: Tally, say: Say) -> list[str]:
    async with contextlib.AsyncExitStack() as stack:
        disk = stack.enter_context(mounted(folder / "disk")) if NEED_A_DISK & quota.keys() else None
        system = await stack.enter_async_context(open_system(folder, disk))
        course = Course(system, seed)
        try:
            for number in numbers:
                faults = plan(seed, number, quota)
                say(f"round {number}")
                for fault in faults:
                    say(f"  {fault}")
                made = await course.play(number, faults)
                tally.add_round(made)
                took = "{:.1f} s of faults, {:.1f} s until all was looked at".format(*made.seconds)
                say(f"  {made.orders} orders, {took}: {'; '.join(some(made.wrong, SHOWN)) or 'good'}")
                if made.wrong:
                    return made.wrong
        finally:
            tally.add_system(system)
    return []
