"""Takes the requests of `just roll` inside `just up`, and rolls."""

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillWaiting

from infra.local.children import SELF, Children
from infra.local.control import Conversation
from infra.local.holders import port_holder
from infra.local.occurrences import Occurrence, OutputLine, RestartRequested
from infra.local.processes import STOP_TIMEOUT_S, Process, StartFailed
from infra.local.roll import EXIT_STOPPED, ROLL
from infra.local.rolling import RollStopped, roll


class RequestedRolls:
    """Rolls the services when another program asks for it; refuses requests while a roll goes on. A RollingSystem.

    A roll runs in the thread of its request. What it wants done to a process it puts into the queue of `just up`.
    """

    def __init__(
        self,
        children: Children,
        env: Mapping[str, str],
        urls: Mapping[str, str],
        *,
        dashboard: str,
        once_ready: Collection[str],
        report: Callable[[Occurrence], None],
    ) -> None:
        """`env`: the system's environment. `urls`, `dashboard`: see RollingSystem. `once_ready`: the services that have
        been ready since the start.

        `report` puts an occurrence into the queue of `just up`.
        """
        self._children = children
        self._env = env
        self.urls = urls
        self.dashboard = dashboard
        self._once_ready = once_ready
        self._report = report
        self._rolling = threading.Lock()

    def answer(self, asked: Conversation) -> None:
        if asked.request != ROLL:
            asked.tell(f"`just up` does not know {asked.request!a}: is it of another version?", EXIT_STOPPED)
        elif not set(self.urls) <= set(self._once_ready):
            asked.tell("`just up` is still starting: nothing was restarted", EXIT_STOPPED)
        elif not self._rolling.acquire(blocking=False):
            asked.tell("another roll is going on: this one restarted nothing", EXIT_STOPPED)
        else:
            try:
                self._roll(asked)
            finally:
                self._rolling.release()

    def _roll(self, asked: Conversation) -> None:
        def say(text: str, code: int | None = None) -> None:
            self._report(OutputLine(SELF, f"roll: {text}"))
            asked.tell(text, code)

        try:
            roll(self, say, lambda: asked.over)
        except RollStopped as why:
            say(str(why), EXIT_STOPPED)
        else:
            say("all services are restarted", 0)

    def runs(self, name: str) -> bool:
        return name in self._children.running

    def port_holder(self, name: str) -> str | None:
        return port_holder(name, self._env)

    def restart(self, name: str) -> Process:
        """End the process `name` in good order, start it again, and return the new process.

        One that has not ended after STOP_TIMEOUT_S seconds is killed; one that does not run is started. Raises
        StartFailed if the new one cannot be started, or the old one does not end.
        """
        started: Future[Process] = Future()
        for killed in (False, True):
            self._report(RestartRequested(name, started, killed))
            try:
                return started.result(STOP_TIMEOUT_S)
            except StillWaiting:
                continue
        raise StartFailed(f"it has not ended {STOP_TIMEOUT_S:g} s after SIGKILL")
