"""Chaos finds bugs that the processes' own tests miss, in a copy of the code that has one."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.sim.bugs import BUGS, Bug

BY_NAME: Final = {bug.name: bug for bug in BUGS}
ROUNDS: Final = 30
"""Maximum number of rounds. The first one that shows the bug is the last; one in two or three does."""


@pytest.mark.parametrize(
    ("bug", "faults"),
    [
        pytest.param(BY_NAME["acknowledges before it has recorded"], ("kill",), id="acknowledges too early"),
        pytest.param(
            BY_NAME["keeps its place in the stream as what it has sent, not as what was taken"],
            ("kill", "broker-kill", "line"),
            id="does not ask the stream",
        ),
    ],
)
def test_a_bug_is_found_by_what_it_leaves_undone(bug: Bug, faults: tuple[str, ...], tmp_path: Path) -> None:
    wanted = [argument for fault in faults for argument in ("--fault", fault)]

    said = bug.planted(tmp_path, "tests.chaos", "2", "--rounds", str(ROUNDS), *wanted)

    assert said.returncode == 1, said.stdout + said.stderr
    assert re.search("has not ended|is missing from the stream", said.stdout), said.stdout + said.stderr
