"""A whole system on this machine: the bundled nats-server and every service, as processes of their own.

A service is a package `<name>_svc` beside this one with a `__main__`; nothing here lists them.
"""

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import IO, Final, Protocol

from infra.local.services import ROOT, own_service_url

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""For HTTP on this machine, which no proxy of the environment should see."""

Output = int | IO[bytes] | None
"""Where a process writes: a file, subprocess.PIPE, or None for where this one does."""


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
    wait_until_ready(own_service_url(name, env), f"{name}_svc", process)


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


def stop_process(process: Process, how: signal.Signals = signal.SIGTERM) -> int:
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
