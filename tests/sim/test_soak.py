"""`just sim-soak` reports the schedules that it played, and whether those were all."""

import subprocess
import sys

from tests.docs.pages import ROOT


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.sim.soak", "--jobs", "1", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_soak_is_a_table_of_both_kinds() -> None:
    said = soak("--core-runs", "300", "--runs", "12", "--first", "7")

    assert said.returncode == 0, said.stdout + said.stderr
    assert "| first seed | 7 | 7 |" in said.stdout
    assert "| last seed | 306 | 18 |" in said.stdout
    assert "| schedules | 300 | 12 |" in said.stdout
    assert "| failures | 0 | 0 |" in said.stdout
    assert "| 1 in 100 | 1 in 4 |" in said.stdout


def test_a_soak_that_had_too_little_time_says_so() -> None:
    said = soak("--minutes", "0")

    assert said.returncode == 1, said.stdout + said.stderr
    assert "too little time" in said.stdout
