"""A system for one command's run, separate from all others on this machine."""

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from infra.local.guard import Guard
from infra.local.nats import launch_nats, wait_until_listening
from infra.local.processes import StartFailed, await_end, start_service, stop_process
from infra.local.readiness import wait_ready
from infra.local.services import free_environment, own_service_url, service_names

StartService = Callable[..., subprocess.Popen[bytes]]
"""Starts a service by its name, as `start_service` does with a name, `env`, `output` and `guard`."""


class OwnSystem:
    """Runs a broker and all services on free ports inside a `with`, with their data below one folder.

    The folder has to exist; the output of each process is in its file `<name>.log`. `settings` are environment
    variables for all processes. If this process is killed, its guard stops them.
    """

    def __init__(self, folder: Path, *, start: StartService = start_service, **settings: str) -> None:
        self.folder = folder
        self._start = start
        self.env = {**free_environment(folder), **settings}
        self._broker: subprocess.Popen[bytes] | None = None
        self._services: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: Guard | None = None

    def __enter__(self) -> "OwnSystem":
        """Start all processes and wait until they are ready.

        Raises StartFailed, with the last lines of its output, if a process cannot be started, ends or is not ready in
        time. Raises SettingsError if a setting of the broker is invalid, and OSError if a log file or a process cannot
        be made. After an error all processes are stopped.
        """
        name = "nats"
        self._guard = Guard()
        try:
            self._launch(name)
            self._await_ready(name)
            for name in service_names():
                self._launch(name)
            for name in self._services:
                self._await_ready(name)
        except BaseException as error:
            self.__exit__()
            if isinstance(error, StartFailed):
                last_lines = self._log(name).read_text(errors="replace").splitlines()[-5:]
                raise StartFailed("\n  ".join([str(error), *last_lines])) from None
            raise
        return self

    def __exit__(self, *_: object) -> None:
        processes = [*self._services.values(), *([self._broker] if self._broker else [])]
        try:
            self.stop_services()
            if self._broker is not None:
                stop_process(self._broker)
        finally:  # also when Ctrl-C interrupts the wait
            for process in processes:
                process.kill()
            if self._guard is not None:
                self._guard.dismiss()

    def url(self, service: str) -> str:
        return own_service_url(service, self.env)

    @property
    def pids(self) -> dict[str, int]:
        """Return, for each name, the id of its newest process, also of an ended one; the broker's name is `nats`."""
        running = {**({} if self._broker is None else {"nats": self._broker}), **self._services}
        return {name: process.pid for name, process in running.items()}

    def stop_services(self) -> dict[str, int]:
        """Stop all services, but not the broker; return the services' exit codes by name. May be called again.

        Before it ends, each service tries for at most 3 s to publish its recorded facts. Waits for each in turn, and
        kills one that has not ended after STOP_TIMEOUT_S of waiting.
        """
        for process in self._services.values():
            process.terminate()
        return {name: await_end(process) for name, process in self._services.items()}

    def kill(self, name: str) -> None:
        """Kill a service, or the broker (`nats`), with SIGKILL, and wait for its end."""
        process = self._broker if name == "nats" else self._services[name]
        if process is not None:
            stop_process(process, signal.SIGKILL)
            if self._guard is not None:
                self._guard.forget(process.pid)

    def delete_broker_store(self) -> None:
        """Delete all that the broker has stored, as a lost disk does. The broker must not be running."""
        shutil.rmtree(self.env["NATS_STORE_DIR"])

    def start_again(self, name: str) -> None:
        """Start a service, or the broker (`nats`), after `kill`; wait until it is ready. Raises StartFailed, OSError.

        The new process's output is added to the file of the old one's.
        """
        self._launch(name)
        self._await_ready(name)

    def _launch(self, name: str) -> None:
        with self._log(name).open("ab") as output:
            if name == "nats":
                self._broker = launch_nats(self.env, output, guard=self._guard)
            else:
                self._services[name] = self._start(name, self.env, output, guard=self._guard)

    def _await_ready(self, name: str) -> None:
        if name in self._services:
            wait_ready(name, self.env, self._services[name])
        elif self._broker is not None:
            wait_until_listening(self._broker, self.env)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"
