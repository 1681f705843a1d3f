"""The systems that are compared: the saga, and its baselines, each as processes of their own on loopback."""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

import asyncpg

from bench.systems.postgres import Postgres
from infra.local.guard import Guard
from infra.local.nats import run_nats
from infra.local.own_system import OwnSystem, StartService
from infra.local.ports import free_ports
from infra.local.processes import StartFailed, start_keeper, start_service, stop_process
from infra.local.readiness import wait_until_ready
from infra.local.services import ROOT, free_environment, own_service_url
from infra.tuning import use_batch_scheduling

SERVICES: Final = ("order", "product", "point", "coupon")
KEEPER: Final = "keeper"
"""The name of the process that rolls the stream over."""


StartProcess = Callable[..., subprocess.Popen[bytes]]
"""Starts a process of a system, with its environment, where its output goes, and its `guard`."""


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
    """The product as `just up` runs it, with its data below this folder; without `keeper`, its stream is not rolled
    over. `start` starts its services; `settings` are environment variables of all processes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keeper: bool = True,
        start: StartService = start_service,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._system = OwnSystem(folder, start=start, **{"LOG_LEVEL": "WARNING", **settings})
        self._keeper = keeper

    def __enter__(self) -> "Saga":
        with ExitStack() as stack:
            with _in_batches():
                stack.enter_context(self._system)
                kept = {KEEPER: self.started(stack, KEEPER, start_keeper).pid} if self._keeper else {}
            self._stack = stack.pop_all()
        self.pids: Mapping[str, int] = {**self._system.pids, **kept}
        self.urls: Mapping[str, str] = {name: self.url(name) for name in SERVICES}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def archived(self) -> Path:
        """The folder of the archive."""
        return self._system.folder / "archive"

    def url(self, process: str) -> str:
        """The base URL of a service, or of the dashboard, if it runs."""
        return self._system.url(process)

    def started(self, stack: ExitStack, name: str, start: StartProcess) -> subprocess.Popen[bytes]:
        """Start one more process of this system, and stop it with the stack; its output is in `<name>.log`."""
        output = stack.enter_context((self._system.folder / f"{name}.log").open("ab"))
        guard = Guard()
        stack.callback(guard.dismiss)
        process = start(self._system.env, output, guard=guard)
        stack.callback(stop_process, process)
        return process

    def prove(self) -> None:
        """Run the audit: all of its invariants, over all facts."""
        self.orders("audit", "--at-rest", "--answers", "0")

    def orders(self, command: str, *arguments: str, may_end_with: Collection[int] = ()) -> None:
        """Run a command of `orders` on this system. Raises WentWrong unless it ends with 0, or as it may."""
        done = subprocess.run(
            [sys.executable, "-m", "ops.orders", command, *arguments],
            cwd=ROOT,
            env={**os.environ, **self._system.env},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 and done.returncode not in may_end_with:
            raise WentWrong(f"`orders {command}` ended with {done.returncode}: {done.stdout}{done.stderr}")


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


class _OnPostgres:
    """A module behind FastAPI, and a PostgreSQL server of its own."""

    module: str
    process: str
    """The name of its process in the results."""

    def __init__(self, _: Path) -> None:
        """The folder is not used: PostgreSQL has a folder of its own."""

    def __enter__(self) -> "_OnPostgres":
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        with ExitStack() as stack:
            database = stack.enter_context(Postgres())
            env = {**os.environ, "DSN": database.dsn, "PORT": str(port)}
            process = _start(stack, self.module, env, url)
            self._stack = stack.pop_all()
        self.dsn = database.dsn
        self.pids: Mapping[str, int] = {self.process: process.pid, "postgres": database.pid}
        self.urls: Mapping[str, str] = dict.fromkeys(SERVICES, url)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prove(self) -> None:
        """There is nothing to prove beyond the totals."""


class Monolith(_OnPostgres):
    """One PostgreSQL transaction behind FastAPI."""

    module, process = "monolith", "fastapi"


class DurableWorkflow(_OnPostgres):
    """A workflow of DBOS behind FastAPI, its steps and its own tables in PostgreSQL."""

    module, process = "workflow", "dbos"

    def __init__(self, folder: Path) -> None:
        _need("dbos")
        super().__init__(folder)

    def prove(self) -> None:
        """No workflow and no order is left without an end, and each order is of a workflow of its own."""
        orders, ended, workflows, succeeded = asyncio.run(self._counts())
        if not orders == ended == workflows == succeeded:
            raise WentWrong(
                f"of {orders:,} orders {ended:,} have ended; of {workflows:,} workflows {succeeded:,} have succeeded"
            )

    async def _counts(self) -> tuple[int, ...]:
        db = await asyncpg.connect(self.dsn)
        try:
            counts = await db.fetchrow(
                "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM orders WHERE status <> 'PENDING'),"
                " (SELECT count(*) FROM dbos.workflow_status),"
                " (SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS')"
            )
        finally:
            await db.close()
        assert counts is not None
        return tuple(counts)


class HandWritten:
    """The choreography on FastStream: a broker, and four services with a SQLite file each below this folder."""

    def __init__(self, folder: Path) -> None:
        _need("faststream")
        self._folder = folder
        self.env = free_environment(folder)

    def __enter__(self) -> "HandWritten":
        with ExitStack() as stack:
            output = stack.enter_context((self._folder / "nats.log").open("wb"))
            pids = {"nats": stack.enter_context(run_nats(self.env, output)).pid}
            self.urls: Mapping[str, str] = {name: own_service_url(name, self.env) for name in SERVICES}
            for name, url in self.urls.items():
                env = {**self.env, "PORT": url.rpartition(":")[2]}
                pids[name] = _start(stack, "choreography", env, url, name).pid
            self._stack = stack.pop_all()
        self.pids: Mapping[str, int] = pids
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prove(self) -> None:
        """Each order ended once, and the steps that are not undone are those of the confirmed orders."""
        ends = self._rows("order", "SELECT ended, count(*) FROM orders GROUP BY ended")
        if [often for often, _ in ends] != [1]:
            raise WentWrong(f"how often orders ended, and how many did: {ends}")
        confirmed = self._rows("order", "SELECT order_id FROM orders WHERE status = 'CONFIRMED' ORDER BY 1")
        for name, orders in (
            ("product", "SELECT DISTINCT order_id FROM reservations ORDER BY 1"),
            ("point", "SELECT order_id FROM uses ORDER BY 1"),
        ):
            if self._rows(name, orders) != confirmed:
                raise WentWrong(
                    f"{name} did something for an order that was not confirmed, or nothing for one that was"
                )
        used = self._rows("coupon", "SELECT order_id FROM coupons WHERE order_id IS NOT NULL")
        if not set(used) <= set(confirmed):
            raise WentWrong("a coupon is used by an order that was not confirmed")

    def _rows(self, service: str, statement: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self._folder / f"{service}.sqlite")) as store:
            return store.execute(statement).fetchall()


SYSTEMS: Final[Mapping[str, Callable[[Path], System]]] = {
    "saga": Saga,
    "one-process": OneProcess,
    "monolith": Monolith,
    "faststream": HandWritten,
    "dbos": DurableWorkflow,
}

ALTERNATIVES: Final = ("faststream", "dbos")
"""Systems that need a package of the same name."""

HOW_TO_INSTALL: Final = "uv sync --inexact --group bench --group bench-alternatives"


def missing() -> list[str]:
    """The systems whose packages are not installed."""
    return [system for system in ALTERNATIVES if find_spec(system) is None]


def _need(package: str) -> None:
    """Raises StartFailed if the package is not installed."""
    if find_spec(package) is None:
        raise StartFailed(f"{package} is missing: {HOW_TO_INSTALL}")


@contextlib.contextmanager
def _in_batches() -> Iterator[None]:
    """Start processes with the scheduling of `just up`, and leave this process as it was."""
    use_batch_scheduling()
    try:
        yield
    finally:
        with contextlib.suppress(AttributeError, OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _start(stack: ExitStack, module: str, env: Mapping[str, str], url: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the module with these arguments and wait until it is ready at this URL. Raises StartFailed."""
    command = [sys.executable, "-m", f"bench.systems.{module}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True)
    stack.callback(stop_process, process)
    wait_until_ready(url, " ".join([module, *arguments]), process)
    return process
