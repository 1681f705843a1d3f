"""The service's clock, and not the machine's, is set back by SET_BACK_S seconds when the process gets SIGUSR1."""

import signal
from datetime import datetime, timedelta

from infra.process.service import assemble, run
from infra.timestamps import now
from tests.wrappers import wrapped

SET_BACK_S = 300


class Clock:
    def __init__(self) -> None:
        self._behind = timedelta()

    def __call__(self) -> datetime:
        return now() - self._behind

    def set_back(self, *_: object) -> None:
        self._behind = timedelta(seconds=SET_BACK_S)


if __name__ == "__main__":
    clock = Clock()
    signal.signal(signal.SIGUSR1, clock.set_back)
    assert assemble.__kwdefaults__ is not None
    assemble.__kwdefaults__["clock"] = clock
    run(wrapped())
