"""Shows the lines of several processes in one terminal, each line after the name of its process."""

import sys
from collections.abc import Sequence
from typing import Final

COLOURS: Final = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")
"""ANSI colour codes, one for each process in order; after the last code the first follows again."""


class LabelledOutput:
    """Writes `name | text` to standard output, in colours if that is a terminal and `colours` is true.

    `names` are the processes whose lines are shown. `own` is the name of this process itself; its label is bold.
    """

    def __init__(self, own: str, names: Sequence[str], *, colours: bool) -> None:
        self._own = own
        self._names = names
        self.width = max(len(name) for name in [*names, own])
        self._colours = colours and sys.stdout.isatty()

    def write(self, name: str, text: str) -> None:
        """Write one line of the process `name`, and flush. Raises OSError if the reader of standard output is gone."""
        label = f"{name:<{self.width}} |"
        if self._colours:
            colour = "1" if name == self._own else COLOURS[self._names.index(name) % len(COLOURS)]
            label = f"\033[{colour}m{label}\033[0m"
        print(label, text, flush=True)
