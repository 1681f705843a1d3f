"""Under all faults of a schedule nothing is lost, doubled or stuck."""

from typing import Final

import pytest

from tests.sim import many
from tests.sim.bounds import Bounds
from tests.sim.faults import FAULTS
from tests.sim.run import run
from tests.sim.schedule import (
    ANY,
    ARCHIVER,
    ARCHIVER_STEPS,
    ARCHIVES,
    Fault,
    Schedule,
    Wanted,
    schedule,
    shorter,
)
from tests.sim.shrink import shrink
from tests.sim.steps import STEPS

SCHEDULES: Final = 400


@pytest.mark.parametrize("first", range(0, SCHEDULES, 100))
def test_no_schedule_breaks_an_invariant(first: int) -> None:
    tally = many.of_services(ANY, range(first, first + 100))

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
    tally = many.of_services(Wanted(("poison", *others)), range(150))

    assert tally.failed is None, f"just sim {tally.failed}"
    assert tally.faults["poison"] > 40


@pytest.mark.parametrize(
    "others",
    [
        pytest.param((), id="undisturbed"),
        pytest.param(("lose-all", "lose-tail", "crash", "hole", "roll"), id="with a broker that loses"),
        pytest.param(("roll-back", "kill", "delete", "poison", "forget"), id="with services that fail"),
    ],
)
def test_archive_and_streams_have_each_fact_and_none_is_published_again(others: tuple[str, ...]) -> None:
    tally = many.of_services(Wanted((ARCHIVES, *others)), range(60))

    assert tally.failed is None, f"just sim {tally.failed}"
    assert tally.archived > 30
    assert tally.faults["kill"] >= 20


@pytest.mark.parametrize("step", ARCHIVER_STEPS)
def test_an_archiver_is_killed_at_each_step_and_the_next_one_goes_on(step: str) -> None:
    faults = (Fault(2.0, ARCHIVES, "broker", 3.0, 1), Fault(0.0, "kill", ARCHIVER, by=ARCHIVER, step=step))
    story: list[str] = []

    outcome = run(schedule(7)._replace(faults=faults), story.append)

    assert not outcome.wrong
    assert outcome.archived == 1
    told = [line[11:] for line in story]
    killed = told.index("archiver is killed")
    assert told[killed - 1] == f"archiver is {step}"
    assert told.index("EVENTS is archived") < killed or step in ("read", "written")
    assert (told.index("EVENTS is deleted") < killed) is (step == "deleted")


def test_a_broker_that_loses_all_while_an_archiver_hangs_jams_nobody() -> None:
    """The services publish all again under the same name before the archiver goes on: its files are proven by then."""
    lost = Fault(0.0, "lose-all", "broker", 0.05, by=ARCHIVER, step="read", nth=3, hangs_s=1.5)
    story: list[str] = []

    outcome = run(schedule(7)._replace(faults=(Fault(2.0, ARCHIVES, "broker", 3.0, 1), lost)), story.append)

    assert not outcome.wrong
    assert any(line.endswith("archiver is read") for line in story)


@pytest.mark.parametrize(
    ("seed", "kinds"), [(7, ()), (12, ()), (13, ()), (3, (ARCHIVES, "lose-all", "kill")), (5, (ARCHIVES, "lose-tail"))]
)
def test_a_seed_is_one_course(seed: int, kinds: tuple[str, ...]) -> None:
    stories: list[list[str]] = [[], []]
    for story in stories:
        run(schedule(seed, Wanted(kinds)), story.append)

    assert stories[0] == stories[1]
    assert stories[0]


def test_a_swarm_has_few_kinds_of_faults_and_small_bounds() -> None:
    plans = [schedule(seed) for seed in range(300)]
    swarms = [plan for plan in plans if plan.bounds != Bounds()]

    assert len(swarms) > 100
    assert len(plans) - len(swarms) > 80
    assert max(len(plan.faults) for plan in swarms) > 6
    assert {fault.step for plan in swarms for fault in plan.faults} >= set(STEPS)
    assert {fault.kind for plan in plans for fault in plan.faults} == FAULTS.keys() - {"poison"}


def test_bounds_can_be_fixed() -> None:
    wanted = Wanted(("kill",), (("window", 3), ("max_batch", 1)))

    plans = [schedule(seed, wanted) for seed in range(50)]

    assert wanted.arguments == " --fault kill --bound window=3 --bound max-batch=1"
    assert {(plan.bounds.window, plan.bounds.max_batch) for plan in plans} == {(3, 1)}
    assert {fault.kind for plan in plans for fault in plan.faults} <= {"kill"}


@pytest.mark.parametrize("step", [step for step in STEPS if step not in ("parked", "snapshotting")])
def test_a_service_is_killed_at_each_named_step(step: str) -> None:
    """The process does nothing after it, until it is started again."""
    plan = schedule(7)._replace(faults=(Fault(0.0, "kill", "point", 0.5, by="point", step=step),))
    story: list[str] = []

    assert not run(plan, story.append).wrong
    told = [line[11:] for line in story]
    killed, over = told.index(f"point is {step}"), told.index("over: kill point")
    assert told[killed + 1].startswith("FAULT: kill point")
    records = [n for n, line in enumerate(told) if line.startswith("point records point.u")]  # the answer to an order
    assert not any(killed < n < over for n in records)
    if step in ("decided", "recording", "recorded"):
        assert (records[0] < killed) is (step == "recorded")


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
