"""A process takes as many open files as it may."""

import subprocess
import sys

import pytest

from infra.local.services import ROOT


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
