"""`just bench-audit`: what an audit costs over ever longer histories, in seconds, CPU and memory."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import history
from infra.local.services import ROOT

LENGTHS: Final = [100_000, 300_000, 1_000_000]
HEAD: Final = f"{'facts':>10} {'seconds':>9} {'CPU s':>7} {'facts/s':>9} {'peak MB':>8} {'again: s':>9}   (made in, s)"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="just bench-audit", description=__doc__)
    parser.add_argument("facts", nargs="*", type=int, default=LENGTHS, help="lengths of histories")
    asked = parser.parse_args(arguments)
    print(HEAD)
    for facts in asked.facts:
        with tempfile.TemporaryDirectory(prefix="saga-audit-") as folder:
            print(measure(Path(folder), facts), flush=True)
    return 0


def measure(folder: Path, facts: int) -> str:
    """A row of the table: an audit from the beginning, then a second one that continues from it."""
    began = time.perf_counter()
    with history.made(folder, facts) as (env, made):
        made_s = time.perf_counter() - began
        seconds, cpu_s, peak_mb = audit(env)
        again_s, _, _ = audit(env)
    row = f"{made:>10,} {seconds:>9.1f} {cpu_s:>7.1f} {made / seconds:>9,.0f} {peak_mb:>8.0f} {again_s:>9.1f}"
    return f"{row}   ({made_s:.0f})"


def audit(env: dict[str, str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and the most memory (MB) of one audit, which must find nothing."""
    command = [sys.executable, "-m", "ops.orders", "audit", "--at-rest", "--answers", "0"]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or not re.search("nothing was found", said):
        raise SystemExit(f"the audit ended with {process.returncode}:\n{said}")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
