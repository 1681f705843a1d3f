"""Bounds how often one complaint is logged: the first line at once, repeated ones counted, then a line with the count.

So no client, no other publisher and no broken disk can fill the log with complaints. One event hides no other, up to
MAX_EVENTS events. Of one event, a window shows at most KINDS_A_WINDOW different lines.
"""

from collections.abc import Hashable
from typing import Final, NamedTuple

FIRST_WINDOW_S: Final = 10.0
LONGEST_WINDOW_S: Final = 160.0
KINDS_A_WINDOW: Final = 10
"""The most lines with one event but different fields, such as keys, that are shown in one window."""
MAX_EVENTS: Final = 1_000
"""The most events that are counted apart; further ones, such as a library may make up, are counted as one event."""


class Suppressed(NamedTuple):
    """How many lines of an event were not shown within the last `seconds`; `level` is that of the last of them."""

    event: str
    level: int
    lines: int
    seconds: float


class _Window:
    def __init__(self, began: float, seconds: float) -> None:
        self.began = began
        self.seconds = seconds
        self.shown: set[Hashable] = set()
        self.suppressed = 0
        self.level = 0


class LogRate:
    """Decides which lines are shown. The window after one that suppressed some is twice as long, up to a limit."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def shows(self, event: str, fields: Hashable, level: int, now: float) -> bool:
        """Return whether to show this line; count it if not. `fields`: what tells lines of one event apart.

        `now` is in seconds, of any clock.
        """
        if event not in self._windows and len(self._windows) >= MAX_EVENTS:
            event = "other events"
        window = self._windows.get(event)
        if window is None:
            window = self._windows[event] = _Window(now, FIRST_WINDOW_S)
        if fields not in window.shown and len(window.shown) < KINDS_A_WINDOW:
            window.shown.add(fields)
            return True
        window.suppressed += 1
        window.level = level
        return False

    def due(self, now: float) -> list[Suppressed]:
        """End the windows that are over; return what each suppressed, if anything. Call it before each `shows`."""
        over = {event: window for event, window in self._windows.items() if now - window.began >= window.seconds}
        found = []
        for event, window in over.items():
            if window.suppressed:
                found.append(Suppressed(event, window.level, window.suppressed, now - window.began))
                self._windows[event] = _Window(now, min(2 * window.seconds, LONGEST_WINDOW_S))
            else:
                del self._windows[event]
        return found
