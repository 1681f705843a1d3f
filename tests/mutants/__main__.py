"""`just mutants`: what the tests do not see. `--report`: the figures so far, and what nothing noticed."""

import difflib
import signal
import sys
import time
from pathlib import Path
from typing import Final

import rich_click as click

from tests.mutants.groups import GROUPS, Group
from tests.mutants.recipe import Recipe
from tests.mutants.report import line_of

ROOT: Final = Path(__file__).resolve().parents[2]
SEED: Final = 34


@click.command("mutants", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice([group.name for group in GROUPS]))
@click.option("--seed", type=int, default=SEED, show_default=True, help="What the sample of infra is drawn by.")
@click.option("--minutes", type=click.FloatRange(0), help="End after so long; the next run continues.")
@click.option("--report", "only_report", is_flag=True, help="Try nothing; print the figures so far.")
@click.option("--show", metavar="ID", help="Print one mutant as a diff, with what became of it.")
def main(*, names: tuple[str, ...], seed: int, minutes: float | None, only_report: bool, show: str | None) -> None:
    """Change the code in one place at a time, and run the tests that execute it: who notices?

    All groups, or only those that are named. What is known is kept in .mutants: a mutant is tried again only if its
    module or its tests changed. Exit code 0: at least 95 % of each group were found; 1: not, or not all were tried; 2:
    wrong usage.
    """
    groups = [group for group in GROUPS if not names or group.name in names]
    recipe = Recipe(ROOT, ROOT / ".mutants")
    if show is not None:
        _show(show, groups, recipe)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its copy and what runs in it go, too
    end = time.monotonic() + minutes * 60 if minutes is not None else float("inf")
    reached = [recipe.report(group, seed) if only_report else recipe.run(group, seed, end) for group in groups]
    sys.exit(0 if all(reached) else 1)


def _show(mutant_id: str, groups: list[Group], recipe: Recipe) -> None:
    for group in groups:
        for mutant in group.mutants(ROOT):
            if mutant.id == mutant_id:
                was, now = (ROOT / mutant.path).read_text(), mutant.make() or ""
                print(*difflib.unified_diff(was.splitlines(), now.splitlines(), lineterm=""), sep="\n")
                known = recipe.results.of(mutant)
                print(f"{line_of(known)}\n{known.error}" if known else "not tried yet")
                return
    raise click.UsageError(f"no mutant of the code as it is has the id {mutant_id}")


if __name__ == "__main__":
    main(prog_name="just mutants")
