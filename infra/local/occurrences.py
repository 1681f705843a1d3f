"""What happens to the processes of `just up`, as its threads and signal handlers report it to its main thread."""

import signal
from concurrent.futures import Future
from typing import NamedTuple

from infra.local.processes import Process


class OutputLine(NamedTuple):
    """The process `name`, which may be this one, wrote a line."""

    name: str
    text: str


class ProcessEnded(NamedTuple):
    """A process ended; a negative `code` is minus the signal that killed it."""

    name: str
    code: int

    def __str__(self) -> str:
        if self.code < 0:
            return f"{self.name} was killed by {_name_of(-self.code)}"
        return f"{self.name} ended with exit code {self.code}"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of most real-time signals
        return f"signal {number}"


class AllReady(NamedTuple):
    """Every service has been ready at least once since the start."""


class StopRequested(NamedTuple):
    """`just up` has to stop: it received the signal `how`.

    `how` is SIGHUP, too, if nobody reads its output any more, or the process that started it is gone.
    """

    how: signal.Signals


class RestartRequested(NamedTuple):
    """The process `name` has to end, in good order or `killed`, and to be started again.

    `started` gets the new process, or StartFailed if it cannot be started. A process that does not run is started.
    """

    name: str
    started: Future[Process]
    killed: bool = False


Occurrence = OutputLine | ProcessEnded | AllReady | StopRequested | RestartRequested
