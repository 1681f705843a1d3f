"""What needs attention, and times in words for people."""

from typing import Final, NamedTuple

UNITS: Final = ((1.0, "ms", 0.001), (120.0, "s", 1.0), (7_200.0, "min", 60.0), (172_800.0, "h", 3_600.0))
"""Below so many seconds, a time is shown in this unit of so many seconds."""

LONG: Final = 160
"""Characters; a longer text of several sentences is summed up by its first one."""
LONGEST: Final = 280
"""Characters of a summary without the command."""


class Concern(NamedTuple):
    """Something that needs attention. `what`: a sentence without its full stop; `next_step`: what to do, in words.

    `commands`: for a shell, to copy.
    """

    what: str
    next_step: str
    commands: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """`what`, if it has at most LONG (160) characters; else its first sentence and the first command.

        A sentence of more than LONGEST (280) characters is cut.
        """
        if len(self.what) <= LONG:
            return self.what
        told = self.what.partition(". ")[0]
        if len(told) > LONGEST:
            told = f"{told[:LONGEST].rpartition(' ')[0]}…"
        return f"{told} ({self.commands[0]})" if self.commands else told


def duration(seconds: float) -> str:
    """Return a time for people: `61 ms`, `41 s`, `12 min`, `3 h`, `9 d`."""
    for most, unit, length in UNITS:
        if seconds < most:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
