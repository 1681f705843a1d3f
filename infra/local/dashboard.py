"""Where the dashboard of a system on this machine listens."""

from collections.abc import Mapping
from typing import Final

from infra.settings import Settings, load

NAME: Final = "dashboard"
PORT: Final = 8_000


def dashboard_settings(env: Mapping[str, str]) -> Settings:
    """Return the dashboard's settings as `env` has them: DASHBOARD_PORT, and what all processes share.

    Raises SettingsError.
    """
    return load(Settings, NAME, PORT, env)
