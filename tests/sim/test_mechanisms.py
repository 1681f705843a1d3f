"""Each mechanism that a decision rests on is a deliberate bug, found by the simulator or by a named test."""

import re

import pytest

from infra.local.services import ROOT
from tests.sim.bugs import Bug
from tests.sim.mechanisms import ALL

WITHOUT_CODE = {
    8: "a choice of libraries",
    12: "the mechanisms of decisions 3 and 7",
    34: "the documents are checked as a whole",
}
"""Decisions on which no mechanism of the code rests, and what they rest on."""


def test_every_decision_has_its_mechanisms() -> None:
    decisions = {int(path.name[:4]) for path in (ROOT / "docs" / "decisions").glob("0*.md")}

    assert decisions - {bug.decision for bug in ALL} == set(WITHOUT_CODE)
    assert len({bug.name for bug in ALL}) == len(ALL)


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in ALL])
def test_a_bug_can_be_planted_and_its_test_is_there(bug: Bug) -> None:
    for file, old, new in bug.changes:
        assert (ROOT / file).read_text(encoding="utf-8").count(old) == 1, file
        assert new != old
    for word in bug.test.split():
        assert word.startswith("-") or (ROOT / word).exists() or re.fullmatch(r"\w+", word), word
