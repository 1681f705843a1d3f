"""What runs all day asks to be scheduled for throughput; where that can't be had, it runs all the same."""

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


if sys.platform == "linux":

    def test_the_process_asks_for_itself_and_for_what_it_starts() -> None:
        asking = "from infra.tuning import use_batch_scheduling; use_batch_scheduling(); "
        child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {POLICY!r}], check=True)"

        assert policy_of(asking + POLICY) == policy_of(asking + child) == os.SCHED_BATCH

    async def test_a_service_asks(broker: Shop) -> None:
        await broker.start("point")

        assert os.sched_getscheduler(broker.processes["point"].pid) == os.SCHED_BATCH
