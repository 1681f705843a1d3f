"""Shows on standard error how far a long command is: as a bar on a terminal, elsewhere only if that is asked for."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import rich_click as click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ops.output import console, print_out

TELL_EVERY_S: Final = 10.0

progress_option: Final = click.option(
    "--progress", is_flag=True, help="Tell on standard error how far it is, as lines if it is no terminal."
)


class Watch(Protocol):
    """Shows the progress of a command, phase by phase.

    `begins`: a phase begins, with this number of items to do (0: unknown). `advances`: this number of them was done
    since the last call.
    """

    def begins(self, what: str, items: int) -> None: ...
    def advances(self, items: int) -> None: ...


@contextlib.contextmanager
def watched(*, as_lines: bool) -> Iterator[Watch]:
    """Yield what shows the progress on standard error during the block.

    On a terminal that is a bar, which is removed at the block's end. Elsewhere it is lines if `as_lines`, else nothing.
    """
    errors = console(error=True)
    if as_lines and not errors.is_terminal:
        yield ProgressLines()
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        yield _Bar(progress)


class _Bar:
    """Shows the progress as one bar of `progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def begins(self, what: str, items: int) -> None:
        self._progress.reset(self._task, description=what, total=items or None)

    def advances(self, items: int) -> None:
        self._progress.advance(self._task, items)


class ProgressLines:
    """Shows a line when a phase begins and, while it advances, another at most every TELL_EVERY_S seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._what = ""
        self._items = 0
        self._done = 0
        self._told_at = clock()

    def begins(self, what: str, items: int) -> None:
        self._what, self._items, self._done, self._told_at = what, items, 0, self._clock()
        print_out(f"{what}, {items:,} items" if items else what, error=True)

    def advances(self, items: int) -> None:
        self._done += items
        if self._clock() - self._told_at >= TELL_EVERY_S:
            self._told_at = self._clock()
            of = f" of {self._items:,}" if self._items else ""
            print_out(f"{self._what}: {self._done:,}{of} done", error=True)
