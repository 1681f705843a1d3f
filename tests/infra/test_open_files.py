"""A process takes as many open files as it may."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.services import ROOT, free_environment


@pytest.mark.parametrize(
    ("soft", "hard", "plenty", "then"),
    [(256, 512, 1_000, 512), (256, 512, 300, 300), (256, 256, 300, 256), (256, 512, 200, 256)],
)
def test_the_limit_is_raised_as_far_as_it_may_be_and_never_lowered(
    soft: int, hard: int, plenty: int, then: int
) -> None:
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "from infra.tuning import raise_open_file_limit\n"
        f"print(raise_open_file_limit({plenty}), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )

    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert said.split() == [str(then), str(then), str(hard)]


@pytest.mark.processes
@pytest.mark.broker
@pytest.mark.parametrize("module", ["point_svc", "infra.local.nats", "infra.local.up"])
def test_with_too_few_open_files_nothing_starts_and_the_limit_is_named(module: str, tmp_path: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    env = {**os.environ, **free_environment(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env=env, capture_output=True, text=True, check=False, preexec_fn=few
    )

    assert ended.returncode == 2
    assert "cannot start: this process may open 64 files, and needs 512: raise the hard limit" in ended.stderr
    assert "Traceback" not in ended.stderr
