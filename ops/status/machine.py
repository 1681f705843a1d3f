"""Finds out what this machine tells of the system's processes while some do not answer."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from infra.local.control import is_running
from infra.local.holders import folder_holder
from infra.local.nats import store_holder


class Machine(NamedTuple):
    """What this machine tells. `up`: whether the `just up` of this DATA_DIR runs.

    `processes`: of the services that do not answer, by name, the id of the process that works on its folder all the
    same. `bundled`: whether the system uses the bundled broker, and `broker`: the process that works on its folder, in
    words; None if none does.
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
