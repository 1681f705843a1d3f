"""Finds out what this machine tells of the system's processes while some do not answer."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from infra.local.control import is_running


class Machine(NamedTuple):
    """What this machine tells. `up`: whether the `just up` of this DATA_DIR runs."""

    up: bool = False


def look_at_machine(env: Mapping[str, str], away: Collection[str]) -> Machine:
    """Look for the processes of the system in `env`; `away` has the names of the services that do not answer.

    Changes nothing. Raises SettingsError.
    """
    return Machine(bool(away) and is_running(env))
