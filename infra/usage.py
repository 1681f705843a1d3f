"""The command line of programs that take no arguments but `--help`."""

import sys
from collections.abc import Sequence
from typing import Final

HELP: Final = ("-h", "--help")
EXIT_USAGE: Final = 2


def take_no_arguments(description: str, arguments: Sequence[str] | None = None) -> None:
    """Return if there are no arguments. Otherwise end the process: raise SystemExit.

    The exit code is 0, after the description was printed, if the arguments ask for help; else 2. `arguments`: without
    the program's name; None: those of this process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if any(argument in HELP for argument in given):
        sys.stdout.write(f"{description.strip()}\n")
        raise SystemExit(0)
    if given:
        sys.stderr.write(f"this takes no arguments, but got {' '.join(map(ascii, given))}; --help says more\n")
        raise SystemExit(EXIT_USAGE)
