"""Deciders and reactions alone, with deliveries in any order: nothing is lost or doubled, and planted bugs show."""

import gc
import re
from pathlib import Path
from typing import Final

import pytest

from tests.sim import many
from tests.sim.bugs import BUGS, Bug

AT_A_TIME: Final = 10_000
SCHEDULES: Final = 20_000
ENOUGH: Final = 2_000
"""Schedules in which every bug of the domain shows; the rarest does in one of 300."""


@pytest.mark.no_cover  # the tests of the domains execute the same, and measuring takes as long again
@pytest.mark.parametrize("first", range(0, SCHEDULES, AT_A_TIME))
def test_no_schedule_of_the_core_breaks_an_invariant(first: int) -> None:
    tally = many.of_the_core(range(first, first + AT_A_TIME))

    assert tally.failed is None, f"just sim --core {tally.failed}"
    assert tally.runs == AT_A_TIME
    assert gc.isenabled()


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS if bug.of_the_domain])
def test_every_bug_of_the_domain_is_seen_by_the_core_alone(bug: Bug, tmp_path: Path) -> None:
    said = bug.shown_by(tmp_path, "--core", "--runs", f"{ENOUGH}")

    assert said.returncode == 1, said.stdout + said.stderr
    assert re.search(r"seed \d+ fails at commit .*: just sim \d+ --core", said.stdout), said.stdout + said.stderr
