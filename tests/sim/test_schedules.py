"""Under all faults of a schedule nothing is lost, doubled or stuck; and the simulator finds planted bugs."""

from pathlib import Path
from typing import Final

import pytest

from tests.sim import many
from tests.sim.bugs import BUGS, Bug
from tests.sim.run import run
from tests.sim.schedule import Fault, Schedule, schedule, shorter
from tests.sim.shrink import shrink

SCHEDULES: Final = 400
ENOUGH: Final = "6000"
"""Schedules in which every bug shows; most of them do within a hundred."""


@pytest.mark.parametrize("first", range(0, SCHEDULES, 100))
def test_no_schedule_breaks_an_invariant(first: int) -> None:
    tally = many.of_services((), range(first, first + 100))

    assert tally.failed is None, f"just sim {tally.failed}"
    assert tally.runs == 100


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(("kill", "crash", "lose-all", "cut", "again", "lock", "fail", "pause", "jump"), id="killed"),
        pytest.param(("lose-tail", "cut", "drop", "again", "forget"), id="alive"),
    ],
)
def test_a_bug_that_is_mended_and_its_dead_letters_redriven_break_no_invariant(others: tuple[str, ...]) -> None:
    tally = many.of_services(("poison", *others), range(150))

    assert tally.failed is None, f"just sim {tally.failed}"
    assert tally.faults["poison"] > 40


def test_a_seed_is_one_course() -> None:
    stories: list[list[str]] = [[], []]
    for story in stories:
        run(schedule(7), story.append)

    assert stories[0] == stories[1]
    assert stories[0]


def test_a_schedule_is_shrunk_to_what_makes_it_fail() -> None:
    guilty = Fault(0.5, "kill", "point", 0.1)
    long = next(plan for plan in map(schedule, range(100)) if len(plan.faults) == 4 and len(plan.wishes) == 4)
    plan = long._replace(faults=(*long.faults[:2], guilty, *long.faults[2:]))

    def fails(candidate: Schedule) -> bool:
        return guilty in candidate.faults and any(wish.points for wish in candidate.wishes)

    plan = plan._replace(wishes=(*plan.wishes[:3], plan.wishes[3]._replace(points=5)))
    shortest = shrink(plan, shorter, fails)

    assert shortest.faults == (guilty,)
    assert len(shortest.wishes) == 1
    assert shortest.wishes[0].times == 1


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS])
def test_every_deliberate_bug_is_seen(bug: Bug, tmp_path: Path) -> None:
    said = bug.shown_by(tmp_path, "--runs", ENOUGH, *(f"--fault={kind}" for kind in bug.faults))

    assert said.returncode == 1, said.stdout + said.stderr
    assert " fails at commit " in said.stdout, said.stdout + said.stderr
