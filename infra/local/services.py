"""Finds the services of a checkout and their URLs, and makes the environment of a system separate from all others.

A service is a package `<name>_svc` with a `__main__`, in the checkout's folder. So no list of services is needed.
"""

import os
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from contracts.wire import SERVICES
from infra.local.dashboard import NAME as DASHBOARD
from infra.local.ports import free_ports
from infra.settings import Settings, http_url, load

ROOT: Final = Path(__file__).resolve().parents[2]
"""The folder of this checkout: it contains the packages of all services."""


def service_names(root: Path = ROOT) -> list[str]:
    """List the names, without `_svc`, of the services in the folder `root`.

    Those with facts in the contracts come first, in the contracts' order; the others follow by name.
    """
    found = {path.parent.name.removesuffix("_svc") for path in root.glob("*_svc/__main__.py")}
    listed = [name for name in SERVICES if name in found]
    return listed + sorted(found.difference(listed))


def service_url(name: str, env: Mapping[str, str]) -> str:
    """Return the base URL of a service of this checkout, as the environment `env` and the defaults set it.

    Raises SettingsError as the service itself would.
    """
    return _settings(name, env).url


def service_port(name: str, env: Mapping[str, str]) -> int:
    """Return the port of a service of this checkout. Raises SettingsError as the service itself would."""
    return _settings(name, env).port


def service_address(name: str, env: Mapping[str, str]) -> tuple[str, int]:
    """Return the host and the port on which a service of this checkout listens. Raises SettingsError."""
    settings = _settings(name, env)
    return settings.bind_host, settings.port


def service_folder(name: str, env: Mapping[str, str]) -> Path:
    """Return the folder with the store of a service of this checkout; it may be missing. Raises SettingsError."""
    return ROOT / _settings(name, env).data_dir / name


def _settings(name: str, env: Mapping[str, str]) -> Settings:
    service = pkgutil.resolve_name(f"{name}_svc.__main__:SERVICE")
    settings: Settings = load(service.settings, name, service.port, env)
    return settings


def own_service_url(name: str, env: Mapping[str, str]) -> str:
    """Return a service's base URL in an environment with BIND_HOST and its port, such as `free_environment` makes.

    Raises KeyError if one of the two is missing.
    """
    return http_url(env["BIND_HOST"], int(env[f"{name}_port".upper()]), "https" if env.get("TLS_CERT_FILE") else "http")


def free_environment(data_dir: Path, root: Path = ROOT) -> dict[str, str]:
    """Make the environment of a separate system: free ports for broker, services and dashboard, data below `data_dir`.

    The rest is this process's environment without the settings that all services share; a service's own settings stay.
    `root` is the folder of the checkout whose services get ports. Makes no folder and starts nothing.
    """
    names = [f"{name}_PORT".upper() for name in (*service_names(root), DASHBOARD)]
    shared = {field.upper() for field in Settings.__struct_fields__}
    nats_port, *ports = free_ports(1 + len(names))
    return {
        **{key: value for key, value in os.environ.items() if key not in shared},
        **{name: str(port) for name, port in zip(names, ports, strict=True)},
        "NATS_PORT": str(nats_port),
        "NATS_STORE_DIR": str(data_dir / "nats"),
        "DATA_DIR": str(data_dir),
        "BIND_HOST": "127.0.0.1",
    }
