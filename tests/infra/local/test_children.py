"""What `just up` starts: a process that cannot be started is told, with its cause."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.children import Children
from infra.local.guard import Guard
from infra.local.processes import StartFailed, launch


@pytest.mark.parametrize("again", [False, True])
def test_an_error_of_the_operating_system_is_told_as_a_failed_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, again: bool
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    children = Children(["keeper"], {}, lambda _: None)

    with pytest.raises(StartFailed, match=r"a process cannot be started: .*/python: No such file or directory"):
        children.start_again("keeper") if again else children.start()
    children.close()


def test_a_limit_of_the_operating_system_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> tuple[int, int]:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(os, "pipe", full)

    with pytest.raises(StartFailed, match=r"cannot be started: Too many open files \(see ulimit -n and -u\)"):
        Children(["keeper"], {}, lambda _: None).start()


def test_a_program_that_cannot_be_run_is_told_without_a_traceback(tmp_path: Path) -> None:
    program = tmp_path / "nats-server"
    program.touch()
    guard = Guard()
    try:
        process = launch([str(program)], {}, subprocess.PIPE, guard=guard)
        said, _ = process.communicate(timeout=60)
    finally:
        guard.dismiss()

    assert (process.returncode, said.decode()) == (1, f"{program} cannot be run: Permission denied\n")
