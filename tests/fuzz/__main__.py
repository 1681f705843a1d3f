"""`just fuzz`: damage right inputs of all readers until the time is over; a seed tells one input again."""

import sys
import time

import rich_click as click

from tests.fuzz.play import play
from tests.fuzz.targets import TARGETS


@click.command("fuzz", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seed", type=click.IntRange(0), help="The first input; each has the next number. Default: by the clock."
)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="How long.")
@click.option("--target", "names", multiple=True, type=click.Choice(list(TARGETS)), help="Such readers only.")
def main(*, seed: int | None, minutes: float, names: tuple[str, ...]) -> None:
    """Damage right inputs of the readers, and see that each gives what it promises or one of its own errors.

    Exit code 0: nothing was found; 1: a reader broke its promise; the input and its seed are shown.
    """
    first = int(time.time()) if seed is None else seed
    until, number = time.monotonic() + 60 * minutes, first
    while time.monotonic() < until:
        for name in names or TARGETS:
            try:
                play(name, number)
            except Exception as error:
                data = play(name, number, dry_run=True)
                click.echo(f"{name}, seed {number}: {type(error).__name__}: {error}\n{data!r}")
                click.echo(f"again: just fuzz --target '{name}' --seed {number}")
                sys.exit(1)
        number += 1
    click.echo(f"{number - first:,} inputs of each reader, from seed {first} on: nothing was found")


if __name__ == "__main__":
    main(prog_name="just fuzz")
