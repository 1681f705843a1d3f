"""Start and stop the processes of a system on this machine."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Final, Protocol

from infra import signals
from infra.files import PRIVATE_UMASK
from infra.local import gate
from infra.local.guard import Guard
from infra.local.services import ROOT

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.02
"""Seconds between two attempts to reach a starting process."""

Output = int | IO[bytes] | None
"""Where a child process writes: a file or its descriptor, subprocess.PIPE, or None for the output of this process."""


class Process(Protocol):
    """A child process that was started: the methods of subprocess.Popen that are used here, with the same meaning."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None: ...


class StartFailed(Exception):
    """The system cannot start: a process ended or was not ready in time, or something that it needs cannot be used."""


def start_service(
    name: str,
    env: Mapping[str, str],
    output: Output = None,
    root: Path = ROOT,
    *,
    inherited: Collection[int] = (),
    guard: Guard | None = None,
) -> subprocess.Popen[bytes]:
    """Start the service `<name>_svc` of the checkout `root`, without waiting until the service is ready.

    `env` and PYTHONUNBUFFERED are its whole environment: nothing of this process's own is inherited. SIGTERM and SIGINT
    that come before the service can handle them wait until then. `inherited`, `guard`: see `launch`.
    """
    return _start_module(f"{name}_svc", env, output, root, inherited=inherited, guard=guard)


def start_keeper(
    env: Mapping[str, str], output: Output = None, *, guard: Guard | None = None
) -> subprocess.Popen[bytes]:
    """Start the keeper of the stream's generations; `env` and PYTHONUNBUFFERED are its whole environment."""
    return _start_module("infra.process.keeper", env, output, guard=guard)


def start_dashboard(
    env: Mapping[str, str], output: Output = None, *, inherited: Collection[int] = (), guard: Guard | None = None
) -> subprocess.Popen[bytes]:
    """Start the dashboard; `env` and PYTHONUNBUFFERED are its whole environment. `inherited`, `guard`: see `launch`."""
    return _start_module("ops.dashboard", env, output, inherited=inherited, guard=guard)


def _start_module(
    module: str,
    env: Mapping[str, str],
    output: Output,
    root: Path = ROOT,
    *,
    inherited: Collection[int] = (),
    guard: Guard | None,
) -> subprocess.Popen[bytes]:
    command, env = [sys.executable, "-m", module], {**env, "PYTHONUNBUFFERED": "1"}
    with signals.held():
        return launch(command, env, output, root, inherited=inherited, guard=guard)


def launch(
    command: list[str],
    env: Mapping[str, str],
    output: Output = None,
    root: Path = ROOT,
    *,
    inherited: Collection[int] = (),
    guard: Guard | None = None,
    last: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a command in the folder `root` as a child process, in a POSIX session of its own.

    The `guard` watches the child (`last`: see Guard.watch) before its first instruction. So there is no time at which
    this process could be killed and leave the child running. With a `guard`, the program has to be a path. None: the
    child keeps running if this process is killed.

    Ctrl-C in a terminal does not reach the child. `output` gets standard error, too. Of this process's other
    descriptors the child gets standard input and those in `inherited`. Files that it makes are its owner's alone.

    Raises OSError if the process cannot be made. A program that cannot be run is an OSError without `guard`; with it
    the child writes why, and ends with exit code 1.
    """
    if guard is None:
        return _popen(command, env, output, root, inherited)
    waiting, allowing = os.pipe()
    with os.fdopen(waiting, "rb"), os.fdopen(allowing, "wb", buffering=0) as pipe:
        gated = [sys.executable, "-I", "-S", gate.__file__, str(waiting), *command]
        process = _popen(gated, env, output, root, [*inherited, waiting])
        try:
            guard.watch(process.pid, last=last)
            with contextlib.suppress(BrokenPipeError):  # somebody has killed it already
                pipe.write(b"+")
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process


def _popen(
    command: list[str], env: Mapping[str, str], output: Output, root: Path, inherited: Collection[int]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=env,
        cwd=root,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=inherited,
        umask=PRIVATE_UMASK,
    )


def start_attempts(process: Process, name: str) -> Iterator[None]:
    """Yield every POLL_S seconds: the caller then tries to reach the starting process, and leaves the loop on success.

    `name` is for the message. Raises StartFailed when the process ends or START_TIMEOUT_S is over.
    """
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise StartFailed(f"{name} ended with exit code {process.returncode} while it was starting; see its log")
        yield
        time.sleep(POLL_S)
    raise StartFailed(f"{name} was not ready within {START_TIMEOUT_S:.0f} s; its log and /readyz say why")


def stop_process(process: Process, how: signal.Signals = signal.SIGTERM) -> int:
    """Send the signal `how` to a process unless it has ended, and wait for its end; kill it after STOP_TIMEOUT_S.

    Returns the exit code; a negative one is minus the signal that ended the process.
    """
    if process.poll() is None:
        process.send_signal(how)
    return await_end(process)


def await_end(process: Process) -> int:
    """Wait for a process to end; kill it after STOP_TIMEOUT_S. Returns its exit code, negative if a signal ended it."""
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
