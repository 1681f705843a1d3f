"""`just mechanisms`: takes out each mechanism that a decision rests on, once, and shows what finds it, as a table."""

import re
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import rich_click as click

from bench.checkout import commit
from tests.sim.bugs import BUGS, Bug
from tests.sim.named import NAMED

ENOUGH: Final = 5_000
"""Schedules in which every deliberate bug shows."""

ALL: Final = sorted((*BUGS, *NAMED), key=lambda bug: bug.decision)


class Seen(NamedTuple):
    """What found the bug, and after how many schedules; None: a test did. `by` is empty if nothing found it."""

    by: str
    schedules: int | None = None


def seen(bug: Bug, runs: int = ENOUGH) -> Seen:
    """Plant the bug in a copy, and look for it. Raises RuntimeError if the search itself goes wrong."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if bug.test:
            said = bug.tested(Path(folder))
            found = Seen(f"`{bug.test}`")
        else:
            said = bug.shown_by(Path(folder), "--runs", f"{runs}", *bug.arguments)
            fails = re.search(r"^seed (\d+) fails", said.stdout, re.MULTILINE)
            found = Seen(f"`just sim{''.join(f' {one}' for one in bug.arguments)}`", int(fails[1]) + 1 if fails else 0)
    if said.returncode not in (0, 1) or (said.returncode == 1 and found.schedules == 0):
        raise RuntimeError(f"{bug.name}: {said.stdout[-1_000:]}{said.stderr[-1_000:]}")
    return found if said.returncode == 1 else Seen("")


@click.command("mechanisms", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, help="Only bugs with this in their name, or of the decision with this number.")
@click.option("--runs", type=click.IntRange(1), default=ENOUGH, show_default=True, help="How many schedules at most.")
@click.option("--simulated", is_flag=True, help="Only those that schedules show.")
def main(*, only: tuple[str, ...], runs: int, simulated: bool) -> None:
    """Take out each mechanism that a decision rests on, in a copy of the code, and look for what finds it.

    Exit code 0: each was found; 1: one was not. With named tests it takes about an hour.
    """
    wanted = [
        bug
        for bug in ALL
        if not (simulated and bug.test)
        and (not only or any(one == str(bug.decision) or (one in bug.name and not one.isdigit()) for one in only))
    ]
    print(f"| decision | at commit {commit()}, a service that | is found by | schedules |")
    print("| ---: | --- | --- | ---: |", flush=True)
    missed = 0
    for bug in wanted:
        by, schedules = seen(bug, runs)
        missed += not by
        print(f"| {bug.decision} | {bug.name} | {by or 'nothing'} | {schedules or ''} |", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main(prog_name="just mechanisms")
