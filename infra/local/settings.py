"""Checks the settings of a whole system on one machine: the bundled broker's, and that no port is given twice."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from infra.local.dashboard import dashboard_settings
from infra.local.services import service_names, service_port
from infra.settings import Port, Settings, SettingsError, load, read


class BundledBrokerSettings(Struct, frozen=True, kw_only=True):
    """The settings of the bundled broker, but for NATS_STORE_DIR: `infra.local.nats.store_folder` reads that.

    Without a value for `gomaxprocs` the broker gets half of the cores, at least one.
    """

    nats_port: Port = 4_222
    broker_max_bytes: Annotated[int, Meta(ge=0, le=1 << 60)] = 0
    """What it takes for all streams; 0: BUNDLED_ROOM."""
    gomaxprocs: Annotated[int, Meta(ge=1, le=4_096)] | None = None
    """The cores that it may use. Checked here: the Go runtime would ignore what is no number, and take all cores."""


def without_blanks(env: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of `env` without empty and blank variables: they count as unset."""
    return {name: value for name, value in env.items() if value.strip()}


def load_bundled_broker(env: Mapping[str, str], ports: Mapping[str, int] | None = None) -> BundledBrokerSettings:
    """Read and check the settings of the bundled broker. `ports`: those of other processes, by the variable's name.

    Raises SettingsError for an invalid value, and for a port that is given twice.
    """
    settings = read(BundledBrokerSettings, env)
    check_ports({**(ports or {}), "NATS_PORT": settings.nats_port})
    return settings


def check_system(env: Mapping[str, str]) -> Settings:
    """Read and check the settings of services, dashboard and, without NATS_URL, bundled broker; return the shared ones.

    The `port` of the returned settings is NATS_PORT. Raises SettingsError, also for a port that is given twice.
    """
    settings = load(Settings, "nats", 4_222, env)
    ports = {f"{name}_port".upper(): service_port(name, env) for name in service_names()}
    ports["DASHBOARD_PORT"] = dashboard_settings(env).port
    if settings.nats_url:
        check_ports(ports)
    else:
        load_bundled_broker(env, ports)
    return settings


def check_ports(ports: Mapping[str, int]) -> None:
    """Raise SettingsError if two variables give the same port. `ports` are by the variable's name."""
    first: dict[int, str] = {}
    for variable, port in sorted(ports.items()):
        other = first.setdefault(port, variable)
        if other != variable:
            raise SettingsError(f"{other} and {variable} are both {port}: give one of them another port")
