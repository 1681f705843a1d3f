"""The named steps of a process from message to message, at which a fault can begin: those of tests/wrappers/crash.py
that the models can see, and a few more.

A process that reaches the step is stopped there, so the fault finds it exactly so.

connected      there is a connection, and nothing was asked yet
resumed        the stream was asked where to continue, and the consumer was not
reset          the consumer is reset, and nothing has been delivered
heard          a delivery has come, and nothing is decided
decided        a batch is decided, and nothing of it is recorded
recording      the commit is on its way, and other tasks of the process have gone on meanwhile
recorded       a batch is committed, and nothing of it is published, answered or acknowledged
snapshotting   a snapshot is about to be stored
sending        facts are about to be sent
sent           facts are on their way to the broker, which has not acknowledged them
published      the broker has acknowledged facts
acknowledging  a delivery is about to be acknowledged
acknowledged   the acknowledgement is on its way
parked         a dead letter is stored, and its message is not acknowledged
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

STEPS: Final = tuple(line.split()[0] for line in (__doc__ or "").splitlines()[5:] if line)

Reach = Callable[[str], bool]
"""Called at each step; returns whether the process was stopped there. Then the caller lets other tasks run."""


class Stoppable(Protocol):
    """A process that comes to steps: a service's, or an archiver's."""

    name: str

    def pause(self) -> None: ...
    def go_on(self) -> None: ...
    async def kill(self) -> None: ...


def nowhere(_: str) -> bool:
    return False


class Steps:
    """The steps at which faults wait."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], list[tuple[int, asyncio.Future[Stoppable]]]] = {}

    def nth(self, service: str, step: str, times: int) -> asyncio.Future[Stoppable]:
        """The process of the service that reaches the step for the n-th time from now on; it is stopped."""
        found: asyncio.Future[Stoppable] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((service, step), []).append((times, found))
        return found

    def reached(self, process: Stoppable, step: str) -> bool:
        waiting = self._waiting.get((process.name, step))
        if not waiting:
            return False
        left: list[tuple[int, asyncio.Future[Stoppable]]] = []
        stops = False
        for times, found in waiting:
            if found.done():
                continue
            if times > 1:
                left.append((times - 1, found))
            else:
                found.set_result(process)
                stops = True
        self._waiting[process.name, step] = left
        if stops:
            process.pause()
        return stops
