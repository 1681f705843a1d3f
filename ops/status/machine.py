"""Looks for the system's processes on this machine, for services that do not answer and for the bundled broker."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from infra.local.control import is_running
from infra.local.holders import folder_holder
from infra.local.nats import store_holder


class Machine(NamedTuple):
    """What was found on this machine. `up`: a service does not answer, and the `just up` of this DATA_DIR runs.

    `processes`: name of a service that does not answer → id of the process that works on its folder all the same; a
    service is missing if its folder's lock names none, or cannot be read. `bundled`: the system uses the bundled broker
    (no NATS_URL). `broker`: the process that works on the bundled broker's folder, in words; None: there is none, the
    lock cannot be read, or another broker is used.
    """

    up: bool = False
    processes: Mapping[str, int] = {}
    bundled: bool = False
    broker: str | None = None


def look_at_machine(env: Mapping[str, str], away: Collection[str]) -> Machine:
    """Look for the processes of the system in `env`; `away` has the names of the services that do not answer.

    Changes nothing. Raises SettingsError.
    """
    found = {name: pid for name in away if (pid := folder_holder(name, env)) is not None}
    bundled = not env.get("NATS_URL", "").strip()
    return Machine(bool(away) and is_running(env), found, bundled, store_holder(env) if bundled else None)
