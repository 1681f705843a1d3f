"""Starts, restarts and signals the processes of `just up`; has their output, their guard, and their sockets."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from infra.listening import INHERITED, listening
from infra.local.dashboard import NAME as DASHBOARD
from infra.local.dashboard import dashboard_address
from infra.local.guard import Guard
from infra.local.nats import launch_nats
from infra.local.occurrences import Occurrence, OutputLine, ProcessEnded
from infra.local.processes import StartFailed, start_dashboard, start_keeper, start_service
from infra.local.services import service_address

BROKER: Final = "nats"
KEEPER: Final = "keeper"
SELF: Final = "up"
"""The name before the lines of `just up` itself."""


class Children:
    """Runs those of the broker, the services, the keeper and the dashboard that are in `names`, as child processes.

    `env` is their environment. `report` gets each line that they print and the end of each, in other threads. This
    process holds the sockets on which the services and the dashboard listen, so that nobody is refused while one is
    started again. The socket of one that has ended for good is closed, so that it can be started elsewhere.
    """

    def __init__(self, names: Sequence[str], env: Mapping[str, str], report: Callable[[Occurrence], None]) -> None:
        self._names = names
        self._env = env
        self._report = report
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._outputs: dict[str, int] = {}
        """The reading ends of what they write: the guard keeps them open until they have ended."""
        self._listeners: dict[str, socket.socket] = {}
        self._guard: Guard | None = None

    def start(self) -> None:
        """Start all processes, without waiting until they are ready. Raises StartFailed, SettingsError.

        After an error call `close`, which kills those that were started.
        """
        with _told():
            pipes = {name: self._pipe(name) for name in self._names}
            self._guard = Guard(list(self._outputs.values()))
            for name, pipe in pipes.items():
                self._launch(name, pipe)

    def start_again(self, name: str) -> subprocess.Popen[bytes]:
        """Start the process `name`, which does not run, and return it.

        Raises StartFailed, SettingsError. If it cannot be launched, its socket is closed.
        """
        with _told():
            return self._start_again(name)

    def _start_again(self, name: str) -> subprocess.Popen[bytes]:
        pipe = self._pipe(name)
        before, self._guard = self._guard, Guard(list(self._outputs.values()))
        for other, process in self.running.items():
            self._guard.watch(process.pid, last=other == BROKER)
        if before is not None:
            before.dismiss()
        try:
            return self._launch(name, pipe)
        except BaseException:
            self._give_up(name)
            raise

    def ended(self, name: str, *, starts_again: bool = False) -> None:
        """Note that the process `name` has ended. Close its socket unless the process `starts_again` at once."""
        # First its socket: who has the port of a service that does not run is somebody else.
        if not starts_again:
            self._give_up(name)
        del self.running[name]
        os.close(self._outputs.pop(name))

    def signal(self, names: Collection[str], how: signal.Signals) -> None:
        for name in set(names) & set(self.running):
            self.running[name].send_signal(how)

    def close(self) -> None:
        """Kill what still runs, without waiting for its end; dismiss the guard, and close the sockets."""
        for process in self.running.values():
            process.kill()
        if self._guard is not None:
            self._guard.dismiss()
        for listener in self._listeners.values():
            listener.close()

    def _give_up(self, name: str) -> None:
        if name in self._listeners:
            self._listeners.pop(name).close()

    def _pipe(self, name: str) -> tuple[int, int]:
        """Make the pipe for what the process writes; return its reading and its writing end.

        A second reading end, for the guard, is kept in `_outputs`.
        """
        output, writing = os.pipe()
        self._outputs[name] = os.dup(output)
        return output, writing

    def _launch(self, name: str, pipe: tuple[int, int]) -> subprocess.Popen[bytes]:
        output, writing = pipe
        try:
            process = self._started(name, writing)
        except BaseException:
            os.close(output)
            os.close(self._outputs.pop(name))
            raise
        finally:
            os.close(writing)
        self.running[name] = process
        threading.Thread(target=self._read, args=(name, process, output), daemon=True).start()
        return process

    def _started(self, name: str, writing: int) -> subprocess.Popen[bytes]:
        if name == BROKER:
            return launch_nats(self._env, writing, guard=self._guard)
        if name == KEEPER:
            return start_keeper(self._env, writing, guard=self._guard)
        listener = self._listeners.get(name) or self._listen(name)
        held = listener.fileno()
        env = {**self._env, INHERITED: str(held)}
        if name == DASHBOARD:
            return start_dashboard(env, writing, inherited=[held], guard=self._guard)
        return start_service(name, env, writing, inherited=[held], guard=self._guard)

    def _listen(self, name: str) -> socket.socket:
        host, port = dashboard_address(self._env) if name == DASHBOARD else service_address(name, self._env)
        try:
            self._listeners[name] = listening(host, port)
        except OSError as error:
            whose = "the dashboard" if name == DASHBOARD else f"{name}_svc"
            raise StartFailed(f"port {port} of {whose} cannot be used: {error.strerror}") from error
        return self._listeners[name]

    def _read(self, name: str, process: subprocess.Popen[bytes], output: int) -> None:
        with open(output, "rb") as lines:
            for raw in lines:
                self._report(OutputLine(name, raw.decode(errors="replace").rstrip()))
        code = process.wait()
        if self._guard is not None:
            self._guard.forget(process.pid)
        self._report(ProcessEnded(name, code))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn an OSError inside the context into StartFailed, which names the file, or else the limits to look at."""
    try:
        yield
    except OSError as error:
        why = f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror} (see ulimit -n and -u)"
        raise StartFailed(f"a process cannot be started: {why}") from error
