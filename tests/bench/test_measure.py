"""What processes cost, with their children."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench import ceilings, measure

PARENT = """
import subprocess, sys
work = "block = bytearray(60_000_000); sum(range(6_000_000)); print(1, flush=True); input()"
child = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE)
sys.stdin.readline(); child.communicate(b"\\n"); print(2, flush=True); sys.stdin.readline()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_children_count_while_they_live_and_their_cpu_after_that(parent: subprocess.Popen[bytes]) -> None:
    assert parent.stdout is not None
    assert parent.stdin is not None
    assert parent.stdout.readline() == b"1\n"
    with measure.peak_memory_mb([parent.pid]) as peak:
        living, memory = measure.cpu_s([parent.pid]), measure.memory_mb([parent.pid])
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == b"2\n"

    assert living > 0.05
    assert memory > 60
    assert measure.cpu_s([parent.pid]) > living - 0.005, "ticks of 10 ms, added up in another order"
    assert measure.memory_mb([parent.pid]) < 60 < peak[0]


def test_ceilings_are_measured() -> None:
    found = list(ceilings.measure_all(0.01))
    assert [ceiling.name for ceiling in found] == ["broker", "log"]
    assert all(ceiling.facts_per_s > 0 and ceiling.cpu_s_per_1000 > 0 for ceiling in found)
