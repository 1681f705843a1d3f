"""The simulator finds planted bugs: the other half of them. They are two files, which run beside each other."""

from pathlib import Path

import pytest

from tests.sim.bugs import BUGS, Bug
from tests.sim.mechanisms import ENOUGH


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS[1::2]])
def test_a_deliberate_bug_is_seen(bug: Bug, tmp_path: Path) -> None:
    said = bug.shown_by(tmp_path, "--runs", f"{ENOUGH}", "--first", f"{bug.near}", *bug.arguments)

    assert (said.returncode, " fails at commit " in said.stdout) == (1, True), said.stdout + said.stderr
