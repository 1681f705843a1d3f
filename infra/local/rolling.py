"""Restarts the services of `just up` one after another, while all others are ready; then keeper and dashboard."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from infra.local.children import KEEPER
from infra.local.dashboard import NAME as DASHBOARD
from infra.local.processes import Process, StartFailed
from infra.local.readiness import ALIVE, READY, why_not_ready

READY_S: Final = 30.0
"""How long a service has to become ready after its start, and the dashboard to answer."""
POLL_S: Final = 0.05


class RollStopped(Exception):
    """A roll ended before its end, or left a service out; the message says why, and what was not restarted."""


class RollingSystem(Protocol):
    """The processes that are restarted, as a roll needs them."""

    @property
    def urls(self) -> Mapping[str, str]:
        """The base URLs of the services, by name; those that are ready are restarted in this order."""

    @property
    def dashboard(self) -> str:
        """The base URL of the dashboard."""

    def runs(self, name: str) -> bool: ...

    def port_holder(self, name: str) -> str | None:
        """Return in words who else has the port of a service that does not run, and how to end it; None: nobody."""

    def restart(self, name: str) -> Process:
        """End the process `name` in good order, start it again, and return the new one. Raises StartFailed."""


def roll(
    system: RollingSystem, say: Callable[[str], None], unwanted: Callable[[], bool], ready_s: float = READY_S
) -> None:
    """Restart all services, then the keeper, and the dashboard last; `say` is told what happens.

    A service that does not run comes first, then one that is not ready. One that does not run, and whose port another
    process has, is left out: RollStopped names it once all others are restarted.

    Raises RollStopped, too, if a process cannot be restarted, or a service or the dashboard ends or is not ready
    `ready_s` seconds later. Raises it instead of restarting a running service or the keeper while another service, also
    one that was left out, is not ready. `unwanted` is asked before each service, but not before the keeper and the
    dashboard; True raises RollStopped.
    """
    left, by_hand = list(system.urls), dict[str, str]()
    while left := _without_taken(system, left, by_hand, say):
        left.sort(key=system.runs)  # each time: one may have ended meanwhile
        if unwanted():
            raise RollStopped(f"nobody waits for it any more; not restarted: {_list(left)}")
        not_ready = _not_ready(system, left)
        name = next((one for one in left if not system.runs(one) or one in not_ready), left[0])
        others = {one: why for one, why in not_ready.items() if one != name}
        if others and system.runs(name):
            raise _stopped(others, left)
        left.remove(name)
        _restart(system, name, say, left, ready_s)
    if not_ready := _not_ready(system, left):
        raise _stopped(not_ready, left)
    _restart_keeper(system, say)
    _restart_dashboard(system, say, ready_s)
    if by_hand:
        raise RollStopped(
            f"all others are restarted, and {_list(list(by_hand))} not: {'; '.join(by_hand.values())}, then `just roll`"
        )


def _without_taken(
    system: RollingSystem, left: Sequence[str], by_hand: dict[str, str], say: Callable[[str], None]
) -> list[str]:
    """Return the names in `left` without the services that do not run and whose port another process has.

    Adds those services to `by_hand`, with what `port_holder` returns for each, and tells `say`.
    """
    found = {name: who for name in left if not system.runs(name) and (who := system.port_holder(name)) is not None}
    for name, who in found.items():
        say(f"{name}_svc: left as it is; {who}")
    by_hand |= found
    return [name for name in left if name not in found]


def _not_ready(system: RollingSystem, left: Collection[str]) -> dict[str, str]:
    """Return why services are not ready, by name; services that are ready have no entry.

    Those in `left` that do not run are not asked, and have no entry, either: they are started first.
    """
    asked = {name: url for name, url in system.urls.items() if name not in left or system.runs(name)}
    return {name: why for name, url in asked.items() if (why := why_not_ready(url)) is not None}


def _stopped(not_ready: Mapping[str, str], left: Sequence[str]) -> RollStopped:
    reasons = "; ".join(f"{one}_svc is not ready: {why}" for one, why in not_ready.items())
    return RollStopped(f"{reasons}. While one is not ready, no other is restarted. Not restarted: {_list(left)}")


def _restart(system: RollingSystem, name: str, say: Callable[[str], None], left: list[str], ready_s: float) -> None:
    began = time.monotonic()
    say(f"{name}_svc: {'restarting' if system.runs(name) else 'it does not run, starting'}")
    try:
        process = system.restart(name)
        _await_ready(system.urls[name], process, ready_s, READY)
    except StartFailed as error:
        raise RollStopped(
            f"{name}_svc did not come back: {error}. Its lines in the output of `just up` say more; mend it, then "
            f"`just roll` begins with it. Not restarted: {_list(left)}"
        ) from error
    say(f"{name}_svc: ready after {time.monotonic() - began:.1f} s")


def _restart_keeper(system: RollingSystem, say: Callable[[str], None]) -> None:
    try:
        system.restart(KEEPER)
    except StartFailed as error:
        raise RollStopped(
            f"the services are restarted, but the keeper did not come back: {error}. Not restarted: {DASHBOARD}"
        ) from error
    say(f"{KEEPER}: restarted")


def _restart_dashboard(system: RollingSystem, say: Callable[[str], None], ready_s: float) -> None:
    """Restart the dashboard: last, because it shows the roll. Raises RollStopped if it does not answer again."""
    try:
        process = system.restart(DASHBOARD)
        _await_ready(system.dashboard, process, ready_s, ALIVE)
    except StartFailed as error:
        raise RollStopped(f"all else is restarted, but the dashboard did not come back: {error}") from error
    say(f"{DASHBOARD}: restarted")


def _await_ready(url: str, process: Process, ready_s: float, path: str) -> None:
    until = time.monotonic() + ready_s
    while (why := why_not_ready(url, path=path)) is not None:
        if process.poll() is not None:
            raise StartFailed(f"it ended with exit code {process.returncode} while it was starting")
        if time.monotonic() > until:
            raise StartFailed(f"it was not ready within {ready_s:g} s: {why}")
        time.sleep(POLL_S)


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"{name}_svc" for name in names) or f"{KEEPER}, {DASHBOARD}"
