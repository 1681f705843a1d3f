"""`just chaos`: rounds of faults by hand. `just soak`: enough rounds to trust the result."""

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import rich_click as click

from bench.checkout import commit
from tests.chaos.disk import can_mount
from tests.chaos.plan import KINDS, NEED_A_DISK, Quota
from tests.chaos.play import play
from tests.chaos.tally import Tally

ROUNDS: Final = 3
QUOTA: Final[Quota] = {
    "kill": 8, "broker-kill": 3, "power": 1, "lose": 0.34, "pause": 0.34, "line": 1, "lock": 0.34, "full": 0.5,
    "roll": 2, "archive": 1,
}  # fmt: skip
SOAK_ROUNDS: Final = 100
SOAK: Final[Quota] = {
    "kill": 10, "broker-kill": 3, "power": 1, "lose": 0.2, "pause": 0.2, "line": 1, "lock": 0.2, "full": 0.5,
    "roll": 1, "archive": 0.5,
}  # fmt: skip


@click.command("chaos", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("seed", type=int, required=False)
@click.option("--rounds", type=click.IntRange(1), help=f"Default: {ROUNDS}; of --soak {SOAK_ROUNDS}.")
@click.option("--fault", "kinds", type=click.Choice(KINDS), multiple=True, help="Only such; may be repeated.")
@click.option(
    "--soak", is_flag=True, help="1,000 kills of services, 300 of the broker, 100 power cuts, 20 lost stores."
)
@click.option("--keep", is_flag=True, help="Keep data and logs though nothing is wrong.")
def main(*, seed: int | None, rounds: int | None, kinds: tuple[str, ...], soak: bool, keep: bool) -> None:
    """Run real processes under load and under faults, in rounds. After each round all is healed, quiet and audited.

    The seed chooses the faults, their processes, times and lengths, and what customers do. It does not choose the exact
    instruction at which a process is hit. Faults of disks need root and /dev/fuse.

    Exit code 0: nothing is lost, doubled or stuck; 1: something is; 2: wrong usage.
    """
    seed = time.time_ns() % 1_000_000 if seed is None else seed
    quota = {kind: often for kind, often in (SOAK if soak else QUOTA).items() if not kinds or kind in kinds}
    if not can_mount():
        if soak or NEED_A_DISK & set(kinds):
            raise click.UsageError("faults of disks need root and /dev/fuse")
        quota = {kind: often for kind, often in quota.items() if kind not in NEED_A_DISK}
    if kinds:
        quota = {kind: max(1, often) for kind, often in quota.items()}
    rounds = rounds or (SOAK_ROUNDS if soak else ROUNDS)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {seed} at commit {commit()}, {rounds} rounds; data and logs in {folder}", flush=True)
    began, tally = time.monotonic(), Tally()
    wrong = asyncio.run(play(folder, seed, rounds, quota, tally, print))
    print(f"seed {seed} at commit {commit()}, {(time.monotonic() - began) / 60:.1f} minutes")
    print("\n".join(tally.lines()))
    if wrong:
        again = " ".join([*(f"--fault {kind}" for kind in kinds), *(["--soak"] if soak else [])])
        print(f"the same faults: just chaos {seed} --rounds {rounds} {again}")
        sys.exit(1)
    if not keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(prog_name="just chaos")
