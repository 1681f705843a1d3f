"""Processes that run all day are tuned for throughput; where that is not possible, they run all the same."""

import os
import subprocess
import sys

import pytest

from infra.local.services import ROOT
from infra.tuning import use_batch_scheduling
from tests.shop import Shop

POLICY = "import os; print(os.sched_getscheduler(0))"


def policy_of(program: str) -> int:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_what_is_refused_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)

    use_batch_scheduling()


def test_objects_of_the_start_are_exempt_from_collection_and_later_ones_are_searched_rarely() -> None:
    code = (
        "import gc\n"
        "from infra.tuning import GC_THRESHOLDS, tune_garbage_collection\n"
        "tune_garbage_collection()\n"
        "print(gc.get_freeze_count() > 1_000, gc.get_threshold()[:2] == GC_THRESHOLDS[:2])"
    )

    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert said.split() == ["True", "True"]


def test_cycles_made_later_are_still_collected() -> None:
    code = (
        "import gc, weakref\n"
        "from infra.tuning import tune_garbage_collection\n"
        "tune_garbage_collection()\n"
        "class Node: pass\n"
        "node = Node()\n"
        "node.itself = node\n"
        "gone = weakref.ref(node)\n"
        "del node\n"
        "kept = [[] for _ in range(50_000)]\n"
        "print(gone() is None)"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout == b"True\n"


if sys.platform == "linux":

    def test_the_process_asks_for_itself_and_for_what_it_starts() -> None:
        asking = "from infra.tuning import use_batch_scheduling; use_batch_scheduling(); "
        child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {POLICY!r}], check=True)"

        assert policy_of(asking + POLICY) == policy_of(asking + child) == os.SCHED_BATCH

    async def test_a_service_asks(broker: Shop) -> None:
        await broker.start("point")

        assert os.sched_getscheduler(broker.processes["point"].pid) == os.SCHED_BATCH
