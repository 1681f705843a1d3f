"""Shows the lines of several processes in one terminal, each line after the name of its process."""

import sys
from collections.abc import Callable, Sequence
from typing import Final

from infra.line_output import LineOutput, writing_to
from infra.printable import printable

COLOURS: Final = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")
"""ANSI colour codes, one for each process in order; after the last code the first follows again."""

TAB: Final = "\t"


class LabelledOutput:
    """Writes `name | text` to standard output, in colours if that is a terminal and `colours` is true.

    `names` are the processes whose lines `write` may get; each has a colour. `own` is the name of this process itself;
    its label is bold, not coloured.
    """

    def __init__(
        self, own: str, names: Sequence[str], *, colours: bool, gone: Callable[[], None] = lambda: None
    ) -> None:
        """`gone` is called once, in another thread, if the reader of standard output is gone; not for a full disk."""
        self._own = own
        self._names = names
        self.width = max(len(name) for name in [*names, own])
        self._colours = colours and sys.stdout.isatty()
        self._output = LineOutput(writing_to(sys.stdout), self._dropped, gone=gone, tick_s=1.0)

    def write(self, name: str, text: str) -> None:
        """Queue one line of the process `name`; what is not printable is escaped, except tabs.

        Never waits: if too many bytes would wait, the line is dropped.
        """
        self._output.put(f"{self._label(name)} {printable(text, keep=TAB)}")

    def flush(self, timeout_s: float) -> None:
        """Wait until all lines are written or dropped, at most `timeout_s` seconds."""
        self._output.flush(timeout_s)

    def _label(self, name: str) -> str:
        label = f"{name:<{self.width}} |"
        if self._colours:
            colour = "1" if name == self._own else COLOURS[self._names.index(name) % len(COLOURS)]
            label = f"\033[{colour}m{label}\033[0m"
        return label

    def _dropped(self, lines: int, why: str) -> str:
        return f"{self._label(self._own)} {lines} lines are missing here: {why}"
