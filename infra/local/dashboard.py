"""The settings of the dashboard of a system on this machine."""

from collections.abc import Mapping
from typing import Final

from infra.addresses import is_http_address
from infra.settings import Settings, load

NAME: Final = "dashboard"
PORT: Final = 8_000
TRACE_ID: Final = "{trace_id}"


class DashboardSettings(Settings, frozen=True, kw_only=True):
    """The settings that all processes share, and those of the dashboard alone."""

    dashboard_trace_url: str = ""
    """Where a trace is shown, with TRACE_ID for its id. Empty: pages have no link to traces."""

    def __post_init__(self) -> None:
        super().__post_init__()
        shown = self.dashboard_trace_url
        if shown and not (TRACE_ID in shown and is_http_address(shown.replace(TRACE_ID, "0"))):
            raise ValueError(
                f"DASHBOARD_TRACE_URL is no address of a trace, such as http://127.0.0.1:16686/trace/{TRACE_ID}; "
                "without the variable pages have no link to traces"
            )


def dashboard_settings(env: Mapping[str, str]) -> DashboardSettings:
    """Return the dashboard's settings as `env` has them: DASHBOARD_PORT, DASHBOARD_TRACE_URL, and the shared ones.

    The shared ones are those of all processes. Raises SettingsError.
    """
    return load(DashboardSettings, NAME, PORT, env)


def dashboard_address(env: Mapping[str, str]) -> tuple[str, int]:
    """Return the host and the port on which the dashboard listens. Raises SettingsError."""
    settings = dashboard_settings(env)
    return settings.bind_host, settings.port
