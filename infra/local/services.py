"""The services of this checkout, where each is reached, and an environment for a system of its own."""

import contextlib
import os
import pkgutil
import random
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from contracts.wire import SERVICES
from infra.settings import Settings, http_url, load

ROOT: Final = Path(__file__).resolve().parents[2]


def commit() -> str:
    """Which code this is, for whoever wants to see the same again."""
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, check=False)
    return said.stdout.decode().strip() or "unknown"


def service_names() -> list[str]:
    """The names of all services: those that say facts in the order of contracts/wire.py, then any others."""
    found = {path.parent.name.removesuffix("_svc") for path in ROOT.glob("*_svc/__main__.py")}
    usual = [name for name in SERVICES if name in found]
    return usual + sorted(found - set(usual))


def service_url(name: str, env: Mapping[str, str]) -> str:
    """Where this service is with these settings. Raises SettingsError as the service itself would."""
    service = pkgutil.resolve_name(f"{name}_svc.__main__:SERVICE")
    settings: Settings = load(service.settings, name, service.port, env)
    return settings.url


def own_service_url(name: str, env: Mapping[str, str]) -> str:
    """Where this service is in an environment that has all settings, such as `free_environment` makes."""
    return http_url(env["BIND_HOST"], int(env[f"{name}_port".upper()]))


def is_free(port: int) -> bool:
    """Whether a server on this machine could listen on this port of 127.0.0.1."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below those that outgoing connections are given."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            port = random.randint(15_000, 31_999)
            candidate = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                candidate.bind(("127.0.0.1", port))
                found.append(port)
    return found


def free_environment(data_dir: Path) -> dict[str, str]:
    """The environment of a system of its own: free ports, data below `data_dir`, no settings of another system."""
    names = [f"{name}_PORT".upper() for name in service_names()]
    shared = {field.upper() for field in Settings.__struct_fields__}
    nats_port, monitor_port, *ports = free_ports(2 + len(names))
    return {
        **{key: value for key, value in os.environ.items() if key not in shared},
        **{name: str(port) for name, port in zip(names, ports, strict=True)},
        "NATS_PORT": str(nats_port),
        "NATS_MONITOR_PORT": str(monitor_port),
        "NATS_STORE_DIR": str(data_dir / "nats"),
        "DATA_DIR": str(data_dir),
        "BIND_HOST": "127.0.0.1",
    }
