"""The systems that are compared: the saga, and its baselines, each as processes of their own on loopback."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

from bench.systems.postgres import Postgres
from infra.local.own_system import OwnSystem
from infra.local.ports import free_ports
from infra.local.processes import stop_process
from infra.local.readiness import wait_until_ready
from infra.local.services import ROOT, free_environment, own_service_url
from infra.tuning import use_batch_scheduling

SERVICES: Final = ("order", "product", "point", "coupon")


class WentWrong(Exception):
    """A system lost, doubled or forged something."""


class System(Protocol):
    """A running system: where its four APIs are, and its processes by name."""

    urls: Mapping[str, str]
    pids: Mapping[str, int]

    def __enter__(self) -> "System": ...
    def __exit__(self, *_: object) -> None: ...
    def prove(self) -> None:
        """Prove what the system itself can prove, beyond the totals. Raises WentWrong."""


class Saga:
    """The product as `just up` runs it, with its data below this folder."""

    def __init__(self, folder: Path) -> None:
        self._system = OwnSystem(folder, LOG_LEVEL="WARNING")

    def __enter__(self) -> "Saga":
        with _in_batches():
            self._system.__enter__()
        self.pids: Mapping[str, int] = self._system.pids
        self.urls: Mapping[str, str] = {name: self._system.url(name) for name in SERVICES}
        return self

    def __exit__(self, *_: object) -> None:
        self._system.__exit__()

    def prove(self) -> None:
        """Run the audit: all of its invariants, over all facts."""
        command = [sys.executable, "-m", "ops.orders", "audit", "--at-rest", "--answers", "0"]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **self._system.env}, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise WentWrong(f"the audit ended with {done.returncode}: {done.stdout}{done.stderr}")


class OneProcess:
    """All four domains in one process, over one SQLite file, behind the same HTTP stack."""

    def __init__(self, folder: Path) -> None:
        self._env = free_environment(folder)

    def __enter__(self) -> "OneProcess":
        url = own_service_url("order", self._env)
        with ExitStack() as stack:
            process = _start(stack, "one_process", self._env, url)
            self._stack = stack.pop_all()
        self.pids: Mapping[str, int] = {"one process": process.pid}
        self.urls: Mapping[str, str] = dict.fromkeys(SERVICES, url)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prove(self) -> None:
        """There is nothing to prove beyond the totals."""


class Monolith:
    """One PostgreSQL transaction behind FastAPI."""

    def __init__(self, _: Path) -> None:
        """The folder is not used: PostgreSQL has a folder of its own."""

    def __enter__(self) -> "Monolith":
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        with ExitStack() as stack:
            database = stack.enter_context(Postgres())
            env = {**os.environ, "DSN": database.dsn, "PORT": str(port)}
            process = _start(stack, "monolith", env, url)
            self._stack = stack.pop_all()
        self.pids: Mapping[str, int] = {"fastapi": process.pid, "postgres": database.pid}
        self.urls: Mapping[str, str] = dict.fromkeys(SERVICES, url)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prove(self) -> None:
        """There is nothing to prove beyond the totals."""


SYSTEMS: Final[Mapping[str, Callable[[Path], System]]] = {
    "saga": Saga,
    "one-process": OneProcess,
    "monolith": Monolith,
}


@contextlib.contextmanager
def _in_batches() -> Iterator[None]:
    """Start processes with the scheduling of `just up`, and leave this process as it was."""
    use_batch_scheduling()
    try:
        yield
    finally:
        with contextlib.suppress(AttributeError, OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _start(stack: ExitStack, module: str, env: Mapping[str, str], url: str) -> subprocess.Popen[bytes]:
    """Start the module and wait until it is ready at this URL. Raises StartFailed."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"bench.systems.{module}"], cwd=ROOT, env=env, start_new_session=True
    )
    stack.callback(stop_process, process)
    wait_until_ready(url, module, process)
    return process
